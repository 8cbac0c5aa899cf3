"""Each module is cut off at each of its steps; one more run makes the host what it should be.

By default at some steps, with GEARVISOR_TEST_ALL at all of them.
"""

import os
import random
import runpy
from pathlib import Path

import pytest
from cases import CASES, SLOW

ALL = bool(os.environ.get("GEARVISOR_TEST_ALL"))
# A kill can come anywhere; the others go the same way back.
SAMPLES = {"KILL": 3}
OTHERS = 1
SIGNALS = 20
INJECT = runpy.run_path(str(Path(__file__).resolve().parents[3] / "tests/faults/inject.py"))
# The steps that a full disk or a lost right fails, as they are described.
WRITES = tuple(f"{event} " for event in INJECT["DISK"])
OF_SLOW = 12
WATCHED = (
    "/etc/supervisor", "/etc/gearman", "/etc/gearvisor", "/etc/systemd/system", "/etc/php", "/usr/local",
    "/var/lib/gearvisor", "/tmp",
)  # fmt: skip
LEFTOVERS = ("/usr/sbin/policy-rc.d", "/usr/sbin/policy-rc.d.gearvisor")


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


def chosen(name, steps, fault):
    """Return the numbers of the steps to try: all, or a sample that is the same in each run."""
    numbers = range(len(steps))
    if fault in ("ENOSPC", "EACCES"):
        numbers = [number for number in numbers if steps[number].startswith(WRITES)]
    wanted = SAMPLES.get(fault, OTHERS)
    if ALL:
        wanted = SIGNALS if fault in ("TERM", "HUP") else len(numbers)
        wanted = min(wanted, OF_SLOW) if name in SLOW else wanted
    return sorted(random.Random(7).sample(numbers, min(wanted, len(numbers))))


@pytest.mark.parametrize("fault", ["KILL", "TERM", "HUP", "ENOSPC", "EACCES"])
@pytest.mark.parametrize("name", CASES)
def test_one_more_run_is_enough(targets, name, fault):
    case, host, usual = CASES[name]
    if not ALL and not (usual and (fault == "KILL" or name == "programs")):
        pytest.skip("slow: GEARVISOR_TEST_ALL is not set")
    target = targets(host)
    if hasattr(case, "set_up"):
        case.set_up(target)
    wanted, _pids = prepared(case, target, after=True)
    _before, kept = prepared(case, target, after=False)
    _result, steps = target.run(case.module, case.arguments(True))
    failures = []
    numbers = chosen(name, steps, fault)
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
