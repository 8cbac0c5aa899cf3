"""Each module is cut off at each of its steps; one more run makes the host what it should be.

By default at some steps, with GEARVISOR_TEST_ALL at all of them.
"""

import os
import random
import types

import pytest

ALL = bool(os.environ.get("GEARVISOR_TEST_ALL"))
# A kill can come anywhere; the others go the same way back.
SAMPLES = {"KILL": 3}
OTHERS = 1
SIGNALS = 20
WATCHED = ("/etc/supervisor", "/etc/gearman", "/etc/systemd/system", "/var/lib/gearvisor", "/tmp")
LEFTOVERS = ("/usr/sbin/policy-rc.d", "/usr/sbin/policy-rc.d.gearvisor")


class Programs:
    """supervisor_programs: a fleet that grows, shrinks, changes and keeps."""

    module = "supervisor_programs"

    @staticmethod
    def arguments(after):
        def program(numprocs, release="1"):
            return {
                "command": "/bin/sleep 100000",
                "numprocs": numprocs,
                "environment": {"RELEASE": release},
                "startsecs": 0,
            }

        programs = {"keep": program(2), "load": program(2 if after else 3, "2" if after else "1")}
        programs["comes" if after else "goes"] = program(1)
        return {"programs": programs, "fleet": "faults", "purge": True, "wait_timeout": 30}

    @staticmethod
    def running(target):
        """Return {process: (state, its RELEASE)} and the pids of what is kept."""
        states, pids = {}, {}
        for line in target.shell("supervisorctl status").splitlines():
            name, state, *rest = line.split()
            if name.startswith("retry-fatal"):
                continue
            pid = rest[1].rstrip(",") if state == "RUNNING" else "0"
            found = target.shell(f"tr '\\0' '\\n' </proc/{pid}/environ | grep ^RELEASE=")
            states[name] = (state, found.strip())
            if name.startswith("keep"):
                pids[name] = pid
        orphans = target.shell("pgrep -c -f '^/bin/sleep 100000'").strip()
        return {**states, "sleeping": orphans}, pids


class JobServer:
    """gearman_job_server: a restart with jobs in its queue, which is a file."""

    module = "gearman_job_server"
    queue = types.MappingProxyType({"type": "libsqlite3", "path": "/var/lib/gearman/faults.db"})

    @classmethod
    def arguments(cls, after):
        return {"queue": dict(cls.queue), "job_retries": 2 if after else 1}

    @staticmethod
    def prepare(target):
        if "waits\t3" not in target.shell("gearadmin --status"):
            for number in range(3):
                target.shell(f"gearman -b -f waits -u job-{number} x")

    @staticmethod
    def running(target):
        shown = target.shell("gearadmin --status; gearadmin --show-unique-jobs | sort")
        process = target.shell("tr '\\0' ' ' </proc/$(pgrep -x gearmand)/cmdline")
        return {"answers": shown, "command": process}, {}


class Drained(JobServer):
    """The same, closed to new jobs first, with a queue in memory that is empty."""

    @classmethod
    def arguments(cls, after):
        return {
            "queue": {"type": "builtin"},
            "job_retries": 2 if after else 1,
            "restart": "drain",
            "drain_timeout": 30,
        }

    @staticmethod
    def prepare(target):
        # A function that a worker has served, so that there is one to close.
        target.shell("gearman -b -f seen x; timeout 5 gearman -w -c 1 -f seen -- cat")


CASES = {
    "programs": (Programs, "plain"),
    "job server": (JobServer, "booted"),
    "drain": (Drained, "plain"),
}


def prepared(case, target, after):
    """Make the host what it is before or after the change; return what can be compared."""
    target.converged(case.module, case.arguments(after))
    if hasattr(case, "prepare"):
        case.prepare(target)
    return seen(case, target)


def seen(case, target):
    running, pids = case.running(target)
    files = target.files(*WATCHED)
    for path in [path for path in files if "/fleets/" in path]:
        # Which run noted the groups last does not matter.
        files[path] = files[path][:4]
    left = target.shell(f"ls -d {' '.join(LEFTOVERS)} 2>/dev/null")
    return {"running": running, "files": files, "left": left}, pids


def different(wanted, found):
    """Return texts about the parts of a host that are not as they should be."""
    texts = []
    for part, expected in wanted.items():
        if not isinstance(expected, dict):
            expected, actual = {part: expected}, {part: found[part]}
        else:
            actual = found[part]
        texts += [
            f"{part}: {key} is {actual.get(key)!r} instead of {expected.get(key)!r}"
            for key in sorted({*expected, *actual})
            if expected.get(key) != actual.get(key)
        ]
    return texts


def chosen(steps, fault):
    """Return the numbers of the steps to try: all, or a sample that is the same in each run."""
    number = SAMPLES.get(fault, OTHERS)
    if ALL:
        number = SIGNALS if fault in ("TERM", "HUP") else len(steps)
    return sorted(random.Random(7).sample(range(len(steps)), min(number, len(steps))))


@pytest.mark.parametrize("fault", ["KILL", "TERM", "HUP", "ENOSPC", "EACCES"])
@pytest.mark.parametrize("name", CASES)
def test_one_more_run_is_enough(targets, name, fault):
    case, host = CASES[name]
    if fault != "KILL" and not ALL and name != "programs":
        pytest.skip("slow: GEARVISOR_TEST_ALL is not set")
    target = targets(host)
    wanted, _pids = prepared(case, target, after=True)
    _before, kept = prepared(case, target, after=False)
    _result, steps = target.run(case.module, case.arguments(True))
    failures = []
    numbers = chosen(steps, fault)
    for number in numbers:
        _before, kept = prepared(case, target, after=False)
        target.run(case.module, case.arguments(True), fault, number)
        target.converged(case.module, case.arguments(True))
        found, pids = seen(case, target)
        wrong = different(wanted, found)
        if pids != kept:
            wrong.append(f"pids of what did not change: {kept} became {pids}")
        again = target.converged(case.module, case.arguments(True))
        if again["changed"]:
            wrong.append(f"a second run changes something again: {again}")
        if wrong:
            failures.append((number, steps[number], *wrong))
    print(
        f"{case.module} ({name}), {fault}: {len(steps)} steps, {len(numbers)} tried, {len(failures)} failed"
    )
    assert not failures, "\n".join(map(str, failures))
