#!/usr/bin/env python3
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""./run bench converge: how long a fleet takes to converge, and what it costs the workers.

docs/benchmarks.md describes what is measured and why. The figures go into this directory.
"""

import argparse
import collections
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ansible_collections
import jinja2
import report
from lab import ROOT, Lab, circumstances, log, numbers

HERE = Path(__file__).resolve().parent
HOST = "bookworm"
# Slept for, in seconds, by the first worker; each of the others sleeps one longer, which
# distinguishes them. A sleeping process is the cheapest worker there is.
FIRST_SLEEP = 1000000
PEERS = {
    "usual": 2.0,
    "whole_restart": 1.0,
}  # with a guess of the seconds a program, until measured
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0"
PROFILE_LINE = re.compile(r"^(.*?) -{2,} ([0-9.]+)s$")

# Runs in the container: the workers as [pid, start time, what they sleep].
LIST_WORKERS = r"""
import json, os
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().decode().split("\0")
        with open(f"/proc/{pid}/stat") as file:
            started = file.read().rpartition(")")[2].split()[19]
    except OSError:
        continue
    if command[0] == "/bin/sleep" and len(command[1]) > 6:
        found.append([pid, started, command[1]])
print(json.dumps(found))
"""

# Runs in the container: writes the files that it reads as JSON.
WRITE_FILES = r"""
import json, os, sys
for path, content in json.load(sys.stdin).items():
    with open(path, "w") as file:
        file.write(content)
    os.chmod(path, 0o644)
"""

# Stands in for Python in the container: runs it, and notes its largest process and its processor
# time. Waited-for children of the module count, too.
MEASURED_PYTHON = r"""#!/usr/bin/python3
import resource, subprocess, sys
status = subprocess.run(["/usr/bin/python3", *sys.argv[1:]]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("/run/gearvisor-bench.usage", "a") as file:
    print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime, file=file)
sys.exit(status)
"""


class Host:
    """The container that all is measured on."""

    def __init__(self, scratch):
        self.lab = Lab(scratch, HERE / "inventory.yml")

    def create(self):
        self.lab.create()
        self.shell(
            "cat >/usr/local/bin/measured-python && chmod 755 /usr/local/bin/measured-python",
            MEASURED_PYTHON,
        )

    def create_without_packages(self):
        """Create it without the packages that former hosts downloaded."""
        self.create()
        self.shell("find /var/cache/apt/archives -name '*.deb' -delete")

    def destroy(self):
        self.lab.destroy()

    def play(self, playbook, **variables):
        """Return (wall time of ansible-playbook in seconds, number of changed tasks, its output)."""
        return self.lab.play(playbook, **variables)

    def shell(self, script, text=""):
        return self.lab.shell(HOST, script, text)

    def python(self, script, text=""):
        return self.lab.run(HOST, "python3", "-c", script, text=text)

    def packages(self):
        return set(self.shell("dpkg-query -W -f '${binary:Package}\\n'").split())

    def workers(self):
        return {tuple(worker) for worker in json.loads(self.python(LIST_WORKERS))}

    def wait_for_workers(self, number):
        deadline = time.monotonic() + 120
        while len(self.workers()) != number:
            if time.monotonic() > deadline:
                raise SystemExit(f"There were never {number} workers")
            time.sleep(0.5)

    def clean(self):
        """Remove all programs, those of site.yml too, and begin with a new supervisord."""
        self.shell(
            "cd /etc/supervisor/conf.d && rm -f bench*.conf reference-*.conf; "
            "systemctl restart supervisor; "
            "until supervisorctl pid >/dev/null 2>&1; do sleep 0.2; done"
        )
        self.wait_for_workers(0)

    def fill(self, programs):
        """Make the programs run, with the files that program.conf.j2 makes, in no time."""
        # Ansible's own settings of Jinja.
        environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
        template = environment.from_string((HERE / "program.conf.j2").read_text())
        files = {
            f"/etc/supervisor/conf.d/{name}.conf": template.render(
                item={"key": name, "value": program}
            )
            for name, program in programs.items()
        }
        self.python(WRITE_FILES, json.dumps(files))
        self.shell("supervisorctl update >/dev/null")
        self.wait_for_workers(len(programs))


def fleet(size, changed=None):
    return {
        f"bench-{number:04}": {
            "command": f"/bin/sleep {FIRST_SLEEP + number}",
            "environment": {"REVISION": "2" if number == changed else "1"},
            "autorestart": "true",
            "stdout_logfile": "NONE",
            "stderr_logfile": "NONE",
        }
        for number in range(size)
    }


class Converging:
    """The module and its peers, by number of programs."""

    def __init__(self, host, sizes):
        self.host = host
        self.sizes = sizes
        self.measured = collections.defaultdict(list)
        self.empty = []

    def measure(self, variant, size, phase):
        """Measure one phase; the host is in the state that it starts from."""
        one = size // 2
        before = self.host.workers()
        seconds, changed, _output = self.host.play(
            HERE / f"{variant}.yml", programs=fleet(size, one if phase == "one" else None)
        )
        if (changed == 0) != (phase == "unchanged"):
            raise SystemExit(
                f"{variant}, {size} programs, {phase}: {changed} tasks changed something"
            )
        gone = before - self.host.workers()
        others = sum(sleep != str(FIRST_SLEEP + one) for _pid, _started, sleep in gone)
        if phase != "unchanged":
            self.host.wait_for_workers(size)
        self.measured[variant, size, phase].append(
            {"seconds": seconds, "interrupted": len(gone), "others": others}
        )
        log(f"{variant}, {size} programs, {phase}: {seconds:.1f} s, {len(gone)} interrupted")

    def measure_empty(self):
        self.empty.append(self.host.play(HERE / "empty.yml")[0])

    def ours(self, rounds):
        """All sizes in turn, in each round, so that a busy minute of the machine meets them all."""
        for _round in range(rounds):
            for size in self.sizes:
                self.host.clean()
                self.measure_empty()
                for phase in ("first", "unchanged", "one"):
                    self.measure("ours", size, phase)

    def peers(self, deadline):
        """Everything that can be done until then, what matters most first."""
        most = max(self.sizes)
        small = [size for size in self.sizes if size <= 10]
        large = [size for size in self.sizes if size > 10]
        plan = [
            *((size, "unchanged") for size in (*small, most)),
            *((size, phase) for size in small for phase in ("first", "one")),
            *((size, phase) for phase in ("unchanged", "one", "first") for size in large),
        ]
        for size, phase in dict.fromkeys(plan):
            for variant in PEERS:
                expected = self.seconds_a_program(variant, phase) * size
                if time.monotonic() + expected > deadline:
                    log(f"{variant}, {size} programs, {phase}: left out, it would take too long")
                    continue
                self.host.clean()
                if phase != "first":
                    self.host.fill(fleet(size))
                self.measure(variant, size, phase)

    def seconds_a_program(self, variant, phase):
        known = [
            (known_phase == phase, size, samples[0]["seconds"] / size)
            for (name, size, known_phase), samples in self.measured.items()
            if name == variant and size > 1
        ]
        return max(known)[2] if known else PEERS[variant]

    def result(self):
        return [
            {
                "variant": variant,
                "programs": size,
                "phase": phase,
                "median": statistics.median(sample["seconds"] for sample in samples),
                "seconds": [round(sample["seconds"], 3) for sample in samples],
                "interrupted": max(sample["interrupted"] for sample in samples),
                "others": max(sample["others"] for sample in samples),
            }
            for (variant, size, phase), samples in sorted(self.measured.items())
        ]


def first_run(host, rounds):
    """site.yml on a fresh host, against apt alone with the same packages on another one."""
    seconds = {"apt": [], "site": []}
    for _round in range(rounds):
        host.create_without_packages()
        before = host.packages()
        # Workers are not watched here: that takes the seconds it is told to.
        seconds["site"].append(host.play(ROOT / "site.yml", gearman_worker_stable=0)[0])
        added = sorted(host.packages() - before)
        host.create_without_packages()
        started = time.perf_counter()
        host.shell(
            f"exec 2>&1; {APT} update && {APT} install --no-install-recommends {' '.join(added)}"
        )
        seconds["apt"].append(time.perf_counter() - started)
        log(f"first run: {seconds['site'][-1]:.1f} s, apt alone: {seconds['apt'][-1]:.1f} s")
    return {**against(seconds, "apt"), "packages": len(added)}


def whole_site(host, rounds):
    """site.yml with nothing to change, against an empty play without facts."""
    seconds = {"empty": [], "site": []}
    tasks = collections.defaultdict(list)
    for _round in range(rounds):
        seconds["empty"].append(host.play(HERE / "empty.yml")[0])
        taken, changed, output = host.play(ROOT / "site.yml")
        if changed:
            raise SystemExit(f"site.yml changed something:\n{output}")
        seconds["site"].append(taken)
        once = collections.Counter()
        for line in output.rpartition("TASKS RECAP")[2].splitlines():
            match = PROFILE_LINE.match(line)
            if match:
                once[match.group(1)] += float(match.group(2))
        for task, spent in once.items():
            tasks[task].append(spent)
        log(f"site.yml: {taken:.1f} s, an empty play: {seconds['empty'][-1]:.1f} s")
    by_task = {task: statistics.median(values) for task, values in tasks.items()}
    ordered = dict(sorted(by_task.items(), key=lambda task: -task[1]))
    return {**against(seconds, "empty"), "tasks": ordered}


def against(seconds, other):
    """Return the figures of {"site": [seconds], other: [seconds]}, measured in turns."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": {name: [round(value, 3) for value in seconds[name]] for name in seconds},
        "median": medians,
        "ratio": medians["site"] / medians[other],
    }


def many_processes(host, number):
    """One program with that many processes: converge, rerun, scale up by one in a hundred, and back."""
    steps = []
    more = number + max(1, number // 100)
    plan = [
        ("first apply", number),
        ("nothing changed", number),
        ("scaled up", more),
        ("back", number),
    ]
    host.clean()
    for step, size in plan:
        before = host.workers()
        host.shell("rm -f /run/gearvisor-bench.usage")
        program = {**fleet(1)["bench-0000"], "numprocs": size}
        seconds, _changed, _output = host.play(
            HERE / "ours.yml",
            programs={"bench": program},
            ansible_python_interpreter="/usr/local/bin/measured-python",
        )
        usage = [line.split() for line in host.shell("cat /run/gearvisor-bench.usage").splitlines()]
        host.wait_for_workers(size)
        steps.append(
            {
                "step": step,
                "processes": size,
                "seconds": round(seconds, 3),
                "interrupted": len(before - host.workers()),
                "memory_mib": round(max(int(line[0]) for line in usage) / 1024, 1),
                "processor_seconds": round(sum(float(line[1]) for line in usage), 2),
            }
        )
        log(f"{size} processes, {step}: {seconds:.1f} s, {steps[-1]['memory_mib']} MiB")
    return steps


def versions(host):
    general = Path(next(iter(ansible_collections.__path__))) / "community/general/MANIFEST.json"
    return {
        "community.general": json.loads(general.read_text())["collection_info"]["version"],
        "Python on the host": host.shell("python3 --version").split()[1],
        "Debian on the host": host.shell("cat /etc/debian_version").strip(),
        "Supervisor": host.shell("supervisord --version").strip(),
    }


def arguments():
    parser = argparse.ArgumentParser(prog="./run bench converge", description=__doc__)
    parser.add_argument(
        "--sizes", type=numbers, default=[1, 10, 50, 200], help="programs, as in 1,10 (%(default)s)"
    )
    parser.add_argument(
        "--processes", type=int, default=1000, help="of the large program (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of what is cheap (%(default)s)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=90,
        help="leave out the peers' least telling cases if all would take longer (%(default)s)",
    )
    parser.add_argument("--results", type=Path, default=HERE, help="directory (%(default)s)")
    return parser.parse_args()


def main():
    options = arguments()
    deadline = time.monotonic() + 60 * options.minutes
    # So that the container goes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["ANSIBLE_CALLBACKS_ENABLED"] = "ansible.posix.profile_tasks"
    os.environ["PROFILE_TASKS_TASK_OUTPUT_LIMIT"] = "all"
    result = {**circumstances("converge"), "sizes": options.sizes}
    with tempfile.TemporaryDirectory() as scratch:
        host = Host(scratch)
        try:
            result["first_run"] = first_run(host, min(3, options.rounds))
            log("Making the host")
            host.create()
            host.play(ROOT / "site.yml")
            result["versions"].update(versions(host))
            result["site"] = whole_site(host, options.rounds)
            converging = Converging(host, options.sizes)
            converging.ours(options.rounds)
            result["many"] = many_processes(host, options.processes)
            converging.peers(deadline)
            result["empty"] = {
                "median": statistics.median(converging.empty),
                "seconds": [round(seconds, 3) for seconds in converging.empty],
            }
            result["converge"] = converging.result()
        finally:
            host.destroy()
    result["load_after"] = os.getloadavg()
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "converge.json").write_text(json.dumps(result, indent=2) + "\n")
    report.write(result, options.results)
    print((options.results / "converge.md").read_text())


if __name__ == "__main__":
    main()
