#!/usr/bin/env python3
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""./run bench worker: how fast workers take jobs, and what they cost while idle.

docs/benchmarks.md describes what is measured and why. The figures go into this directory.
"""

import argparse
import collections
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
from lab import ROOT, circumstances, log
from server import Client, JobServer, wait_for

HERE = Path(__file__).resolve().parent
PINNED = ("pygearman==0.2.6", "gear==0.16.0")

SMALL = 10  # bytes
SIZES = (SMALL, 1024, 100 * 1024, 1024 * 1024)
FLEETS = (1, 2, 4, 8)  # workers at once
# As if it was installed: its modules are compiled once, not at each start.
SETTINGS = {"PYTHONPATH": str(ROOT / "python/src"), "PYTHONDONTWRITEBYTECODE": ""}
LOADS = ("idle", "busy")  # all cores free for it, or one kept busy by another process
QUEUED = 256 * 2**20  # bytes of payloads that gearmand is given at most; it holds them in memory
TRIAL = 0.3  # seconds a trial must take to measure the rate of a worker
LEAST = (
    8  # jobs a worker in each sample: the first on a connection can be much faster than the rest
)


def processor_seconds(pid):
    """Return the processor time that a process has taken (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def load(kind):
    """Keep one core busy meanwhile, if the kind of load requires it."""
    if kind == "idle":
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


class Bench:
    """One worker after the other against one job server, round by round."""

    def __init__(self, server, commands, seconds):
        self.server = server
        self.commands = commands
        self.seconds = seconds
        self.client = Client(server.port)
        self.jobs = {}
        self.rates = collections.defaultdict(list)
        self.latencies = collections.defaultdict(list)
        self.starts = collections.defaultdict(list)

    def try_out(self):
        """Find out how many jobs take each worker about the same time in every case."""
        for name, size, fleet in self._cases(0):
            with Fleet(self, name, fleet) as workers:
                number = 2 * fleet
                while (rate := self.rate(workers, number, size)["per_second"]) * TRIAL > number:
                    if 4 * number * size > QUEUED:
                        break
                    number *= 4
            most = min(int(rate * self.seconds), QUEUED // size)
            self.jobs[name, size, fleet] = max(LEAST * fleet, most)

    def round(self, number):
        """Measure all cases once, with all cores free and with one kept busy."""
        for kind in LOADS:
            with load(kind):
                for name, size, fleet in self._cases(number, kind):
                    self._measure(name, size, fleet, kind)

    def _measure(self, name, size, fleet, kind):
        with Fleet(self, name, fleet) as workers:
            if (size, fleet) == (SMALL, 1):
                if kind == "idle":
                    self.starts[name].append(workers.at_rest())
                self.latencies[name, kind].append(self.latency())
            rate = self.rate(workers, self.jobs[name, size, fleet], size)
            self.rates[name, size, fleet, kind].append(rate)

    def _cases(self, number, kind="idle"):
        """In each case the workers take turns, every round another one first.

        With a busy core only small jobs count: large ones measure the copying.
        """
        names = list(self.commands)
        shift = number % len(names)
        sizes = SIZES if kind == "idle" else (SMALL,)
        cases = [(size, 1) for size in sizes] + [(SMALL, fleet) for fleet in FLEETS if fleet > 1]
        for size, fleet in cases:
            for name in names[shift:] + names[:shift]:
                yield name, size, fleet

    def rate(self, workers, number, size):
        """Return jobs per second, from a full queue to the answer of the last in it.

        With them, the processor time per job of the workers and of gearmand, in seconds.
        """
        payload = os.urandom(size)
        workers.hold()
        self.client.queue(number - 1, payload)
        # It is taken last, for a queue is first in, first out.
        self.client.start(payload)
        before = workers.processor_seconds(), processor_seconds(self.server.process.pid)
        started = time.perf_counter()
        workers.go_on()
        self.client.finish(payload)
        seconds = time.perf_counter() - started
        after = workers.processor_seconds(), processor_seconds(self.server.process.pid)
        wait_for(self.server.idle, "The end of all jobs")
        return {
            "per_second": number / seconds,
            "worker_time": (after[0] - before[0]) / number,
            "gearmand_time": (after[1] - before[1]) / number,
        }

    def latency(self):
        """Return the median and the 99th percentile of round trips one after the other, in seconds."""
        payload = os.urandom(SMALL)
        trips = []
        end = time.perf_counter() + self.seconds
        while len(trips) < LEAST or time.perf_counter() < end:
            started = time.perf_counter()
            self.client.start(payload)
            self.client.finish(payload)
            trips.append(time.perf_counter() - started)
        percentiles = statistics.quantiles(trips, n=100, method="inclusive")
        return {"p50": percentiles[49], "p99": percentiles[98], "trips": len(trips)}

    def result(self):
        return {
            "workers": list(self.commands),
            "rates": [
                {
                    "worker": name,
                    "bytes": size,
                    "at_once": fleet,
                    "load": kind,
                    "jobs": self.jobs[name, size, fleet],
                    **figures(values),
                }
                for (name, size, fleet, kind), values in self.rates.items()
            ],
            "latency": [
                {"worker": name, "load": kind, **figures(values)}
                for (name, kind), values in self.latencies.items()
            ],
            "start": {name: figures(values) for name, values in self.starts.items()},
        }


class Fleet:
    """Worker processes of one kind, registered with the job server."""

    def __init__(self, bench, name, number):
        self._server = bench.server
        ids = {f"{name}-{index}" for index in range(number)}
        started = time.perf_counter()
        self._processes = [
            subprocess.Popen(
                [word.format(port=bench.server.port, id=each) for word in bench.commands[name]],
                env=os.environ | SETTINGS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for each in ids
        ]
        try:
            wait_for(lambda: bench.server.registered() >= ids, f"{number} of {name}")
        except BaseException:
            self.__exit__()
            raise
        self.seconds = time.perf_counter() - started

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        for process in self._processes:
            process.kill()
            process.wait()
        wait_for(lambda: not self._server.registered(), "The workers' end")

    def hold(self):
        self._signal(signal.SIGSTOP)

    def go_on(self):
        self._signal(signal.SIGCONT)

    def _signal(self, number):
        for process in self._processes:
            process.send_signal(number)

    def processor_seconds(self):
        """Return the processor time that all of them have taken so far."""
        return sum(processor_seconds(process.pid) for process in self._processes)

    def at_rest(self):
        """Return the time one took to register, and its memory before the first job, in KiB."""
        time.sleep(0.2)
        text = Path(f"/proc/{self._processes[0].pid}/smaps_rollup").read_text()
        memory = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", text, re.MULTILINE))
        return {"seconds": self.seconds, "rss": int(memory["Rss"]), "pss": int(memory["Pss"])}


def figures(samples):
    """Return the summary of each figure in [{figure: value}]."""
    return {each: summary([sample[each] for sample in samples]) for each in samples[0]}


def summary(values):
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "samples": [round(value, 9) for value in values],
    }


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def build(scratch):
    """Build what is measured; return its commands by name, with {port} and {id}."""
    subprocess.run(
        ["gcc", "-O2", "-o", scratch / "c_worker", HERE / "c_worker.c", "-lgearman"], check=True
    )
    output(sys.executable, "-m", "venv", scratch / "venv")
    output(scratch / "venv/bin/pip", "install", "-qq", "--disable-pip-version-check", *PINNED)
    python = str(scratch / "venv/bin/python")
    ours = [python, "-m", "gearvisor", "worker", "echo=gearvisor.reference:echo"]
    php = ["php", str(ROOT / "php/worker.php"), f"--functions={HERE / 'functions.php'}"]
    options = ["--server=127.0.0.1:{port}", "--client-id={id}"]
    (scratch / "failed").mkdir()
    facts = [f"--status-file={scratch}/{{id}}.json", f"--failed-dir={scratch}/failed"]
    return {
        "ours": ours + options,
        "facts": ours + options + facts,
        "ahead": ours + options + ["--prefetch=2", "--job-timeout=60"],
        "c": [str(scratch / "c_worker"), "{port}", "{id}"],
        "php": php + options,
        "pygearman": [python, str(HERE / "pygearman_worker.py"), "{port}", "{id}"],
        "gear": [python, str(HERE / "gear_worker.py"), "{port}", "{id}"],
    }


def versions():
    package = "${Version}"
    return {
        "gearmand": output("dpkg-query", "-Wf", package, "gearman-job-server"),
        "libgearman": output("dpkg-query", "-Wf", package, "libgearman-dev"),
        "PHP": output("php", "-r", "echo PHP_VERSION;"),
        "PHP extension": output("php", "-r", "echo phpversion('gearman');"),
        **dict(requirement.split("==") for requirement in PINNED),
    }


def whole(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def positive(text):
    number = float(text)
    if not 0 < number < 3600:
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return number


def main():
    parser = argparse.ArgumentParser(prog="./run bench worker", description=__doc__)
    parser.add_argument("--rounds", type=whole, default=7, help="samples of each case (default 7)")
    parser.add_argument(
        "--seconds",
        type=positive,
        default=1.2,
        help="about so long a sample takes (default 1.2: about 20 minutes in all)",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=HERE,
        metavar="DIRECTORY",
        help="where the figures go (default: the directory of this file)",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    result = circumstances("worker")
    result["versions"].update(versions())
    with tempfile.TemporaryDirectory() as scratch:
        commands = build(Path(scratch))
        server = JobServer()
        try:
            bench = Bench(server, commands, options.seconds)
            bench.try_out()
            for number in range(options.rounds):
                started = time.monotonic()
                bench.round(number)
                taken = time.monotonic() - started
                log(f"round {number + 1} of {options.rounds}: {taken:.0f} s")
        finally:
            server.stop()
    result |= bench.result()
    result["load_after"] = os.getloadavg()
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "worker.json").write_text(json.dumps(result, indent=2) + "\n")
    report.write(result, options.results)
    print((options.results / "worker.md").read_text())


if __name__ == "__main__":
    main()
