# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why is it slow, or not working: one line for each thing that an operator should know.

A pure function of what was seen (observe.View). Each rule looks at one kind of trouble.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Callable, NamedTuple

from .escape import escaped
from .observe import View, Worker
from .summary import Function, functions

CRITICAL, WARNING, NOTICE, FINE = "critical", "warning", "notice", "ok"
_ORDER = (CRITICAL, WARNING, NOTICE, FINE)

LONG_WAIT = 60.0  # seconds after which a waiting job is worth a line
LONG_JOB = 600.0  # seconds after which a running job is
FAILURES = 3  # unexpected ends of a process in ten minutes
FEW = 5  # jobs below which a share of failures means nothing
SHARE = 0.5  # of a function's jobs that failed
LEAK_TIMES, LEAK_LEAST = 3.0, 200.0  # times the median memory of its program, and MiB
NAME = 40  # characters of a name


class Finding(NamedTuple):
    """One line. severity: critical, warning, notice or ok."""

    severity: str
    text: str


def diagnose(view: View) -> list[Finding]:
    """Return what is wrong, the worst first; one line that all is well when nothing is."""
    rows = functions(view)
    found = [finding for rule in _RULES for finding in rule(view, rows)]
    if not found:
        found = [Finding(FINE, _all_is_well(rows))]
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def duration(seconds: float) -> str:
    """Return a time span in one unit: "41 s", "6 min", "3 h", "2 d"."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (seconds >= size and unit == "min"):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _all_is_well(rows: list[Function]) -> str:
    running, waiting = sum(row.running for row in rows), sum(row.waiting for row in rows)
    return f"all is well: {running} jobs run, {waiting} wait"


def _name(text: str) -> str:
    return escaped(text, NAME) or "(empty name)"


# The rules


def _rollout(view: View, _rows: list[Function]) -> Iterator[Finding]:
    rollout = view.rollout
    if rollout is None:
        return
    fleet = _name(rollout.fleet)
    if not rollout.alive:
        yield Finding(WARNING, f"a rollout of {fleet} was cut off; run its play again to finish it")
        return
    what = "is rolled back" if rollout.phase == "roll-back" else "is rolled out"
    yield Finding(NOTICE, f"{fleet} {what}, since {duration(view.now - rollout.started)}")
    for step in rollout.steps:
        text = f"{_name(step.program)}: {step.total - step.left} of {step.total} processes begun"
        if step.jobs is not None:
            text += f"; its first batch did {step.jobs} jobs, {step.failed or 0} of them failed"
        yield Finding(NOTICE, text)


def _servers_down(view: View, _rows: list[Function]) -> Iterator[Finding]:
    for server in view.servers:
        if not server.up:
            error = escaped(server.error, 200)
            yield Finding(CRITICAL, f"job server {server.address} does not answer: {error}")


def _without_workers(_view: View, rows: list[Function]) -> Iterator[Finding]:
    for row in rows:
        if row.waiting and not row.workers and row.paused_since is None:
            yield Finding(CRITICAL, f"no worker serves {_name(row.name)}; {_wait(row.waiting)}")


def _paused(view: View, rows: list[Function]) -> Iterator[Finding]:
    for row in rows:
        if row.paused_since is not None:
            since = duration(view.now - row.paused_since)
            text = f"{_name(row.name)} is paused since {since} on this host; {_wait(row.waiting)}"
            yield Finding(WARNING if row.waiting else NOTICE, text)


def _busy(view: View, rows: list[Function]) -> Iterator[Finding]:
    oldest = max((server.oldest or 0.0 for server in view.servers), default=0.0)
    age = f"; the oldest job is {duration(oldest)} old" if oldest >= LONG_WAIT else ""
    for row in rows:
        if not row.waiting or not row.workers or row.paused_since is not None:
            continue
        if row.running >= row.workers:
            text = f"{row.running} of {row.workers} workers of {_name(row.name)} are busy"
        elif not row.running:
            text = f"none of the {row.workers} workers of {_name(row.name)} takes its jobs: busy"
            text += " with other functions, or stuck"
        else:
            continue
        yield Finding(WARNING if age else NOTICE, f"{text}; {_wait(row.waiting)}{age}")


def _restarting(view: View, _rows: list[Function]) -> Iterator[Finding]:
    programs = defaultdict(list)
    for process in view.processes or ():
        programs[process.program].append(process)
    for program, processes in sorted(programs.items()):
        fatal = [each for each in processes if each.state == "FATAL"]
        if fatal:
            yield Finding(
                CRITICAL,
                f"{len(fatal)} of {len(processes)} processes of {_name(program)} are given up by"
                " Supervisor (FATAL); see their logs",
            )
        failing = [
            each
            for each in processes
            if each.state != "FATAL" and (each.state == "BACKOFF" or len(each.failures) >= FAILURES)
        ]
        if failing:
            yield Finding(
                CRITICAL,
                f"{len(failing)} of {len(processes)} processes of {_name(program)} restart again"
                " and again",
            )


def _died(view: View, _rows: list[Function]) -> Iterator[Finding]:
    for worker in view.workers:
        job = worker.facts["job"]
        if not worker.alive and job is not None:
            yield Finding(
                CRITICAL,
                f"{_name(worker.name)} died in a job of {_name(job['function'])}, unique id"
                f" {_name(job['unique'])}",
            )
    died = sum(worker.facts["died"] for worker in view.workers if worker.alive)
    if died:
        yield Finding(WARNING, f"{died} times a worker of this host died in a job; see their logs")


def _long_jobs(view: View, _rows: list[Function]) -> Iterator[Finding]:
    longest: dict[str, list[tuple[float, Worker]]] = defaultdict(list)
    for worker in view.workers:
        for job in (worker.facts["job"], *worker.facts["other_jobs"]):
            if worker.alive and job is not None and view.now - job["since"] >= LONG_JOB:
                longest[job["function"]].append((view.now - job["since"], worker))
    for function, jobs in sorted(longest.items()):
        seconds, worker = max(jobs, key=lambda each: each[0])
        text = (
            f"{len(jobs)} jobs of {_name(function)} run"
            if len(jobs) > 1
            else (f"a job of {_name(function)} runs")
        )
        yield Finding(
            WARNING,
            f"{text} for over {duration(LONG_JOB)}, the longest for {duration(seconds)} in"
            f" {_name(worker.name)}",
        )


def _failing(_view: View, rows: list[Function]) -> Iterator[Finding]:
    for row in rows:
        if row.done + row.failed >= FEW and row.failed >= SHARE * (row.done + row.failed):
            yield Finding(
                WARNING,
                f"{row.failed} of the last {row.done + row.failed} jobs of {_name(row.name)}"
                " failed; see `gearvisor failed list`",
            )


def _memory(view: View, _rows: list[Function]) -> Iterator[Finding]:
    programs = defaultdict(list)
    for worker in view.workers:
        if worker.alive and (worker.facts["rss"] or 0) > 0:
            programs[worker.program].append(worker)
    for workers in programs.values():
        usual = median(worker.facts["rss"] for worker in workers)
        for worker in workers:
            rss, limit = worker.facts["rss"], worker.facts["limits"]["max_rss"]
            if limit and rss > limit:
                text = f"over its limit of {limit:.0f} MiB, at which it leaves after its job"
            elif rss >= LEAK_LEAST and rss > LEAK_TIMES * usual:
                text = f"{rss / usual:.1f} times what is usual for its program; does it leak?"
            else:
                continue
            yield Finding(WARNING, f"{_name(worker.name)} uses {rss:.0f} MiB, {text}")


def _disconnected(view: View, _rows: list[Function]) -> Iterator[Finding]:
    lost: Counter[str] = Counter()
    known: Counter[str] = Counter()
    for worker in view.workers:
        for server, connected in worker.facts["servers"].items():
            known[server] += worker.alive
            lost[server] += worker.alive and not connected
    for server, number in sorted(lost.items()):
        if number:
            yield Finding(
                WARNING,
                f"{number} of {known[server]} workers of this host are not connected to"
                f" {_name(server)}",
            )


def _unkept(view: View, _rows: list[Function]) -> Iterator[Finding]:
    unwritten = sum(worker.facts["failed_jobs"]["unwritten"] for worker in view.workers)
    if unwritten:
        yield Finding(
            WARNING,
            f"{unwritten} failed jobs could not be kept; see their workers' logs",
        )


def _wait(waiting: int) -> str:
    return "nothing waits" if not waiting else f"{waiting} job{'s' if waiting > 1 else ''} waiting"


_RULES: tuple[Callable[[View, list[Function]], Iterator[Finding]], ...] = (
    _rollout,
    _servers_down,
    _without_workers,
    _restarting,
    _died,
    _paused,
    _busy,
    _long_jobs,
    _failing,
    _disconnected,
    _memory,
    _unkept,
)
