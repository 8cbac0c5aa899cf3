# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a plan on a running supervisord.

Every step is a generator that yields while it waits; rounds.py moves them on. So programs
proceed side by side, each in its own batches, without threads. When a step fails, the others
are not left in the middle: what they took down is started again, and no further batch begins.
"""

from __future__ import annotations

import collections
import time
from typing import NamedTuple

from ..failure import GearvisorError
from . import leftovers, watch
from .options import DEFAULTS
from .plan import is_true, next_batch, seconds, share, should_be_up
from .readiness import Readiness, servers_of
from .rounds import View, run, side_by_side
from .rpc import AT_REST, BACKOFF, RUNNING, StillRunning
from .starting import KILL_SECONDS, Starting, until_none

_WATCH_SECONDS = 0.5  # between two looks at the counters
# Between two looks for what a process has left behind: each reads all of /proc.
_LEFTOVER_SECONDS = 0.5


class Pace(NamedTuple):
    """How fast, and what has to be true before it goes on. Seconds; batches as numbers or '25%'."""

    batch: int | str = 1
    max_unavailable: int | str | None = None
    wait: bool = True
    wait_timeout: float = 30
    stable: float = 0
    watch: watch.Settings = watch.Settings()


class Stopped(GearvisorError):
    """The first batch of new code fails its jobs, or finishes none."""


class Rollout:
    """Carries out one plan on one supervisord."""

    def __init__(
        self,
        supervisord,
        loaded,
        old,
        new,
        pace,
        host,
        functions=None,
        progress=None,
        together=False,
    ):
        """*loaded*: {group: [Process]} as it is now; *old*, *new*: {group: Section}.

        *functions*: {program: list} as the user gave them. *together*: the programs get a release that they
        share, so none goes on before the first batch of each has shown what it does.
        *host* has the places of the status files and the paused functions.
        """
        self._supervisord = supervisord
        self._old = old
        self._new = new
        self._pace = pace
        self._progress = progress or (lambda **_facts: None)
        self.view = View(supervisord, loaded)
        self.readiness = Readiness(
            supervisord, self.view, pace, functions or {}, host.runtime, host.paused
        )
        self._starting = Starting(supervisord, self.view, pace, self.readiness)
        self.verdicts = {}
        self.warnings = []
        # Groups that run the new definition or code, as far as it went.
        self.touched = []
        self._together = together
        # Programs whose first batch has not been up and watched yet, where the others wait for that.
        self._unproved = set()

    def carry_out(self, plan, first=frozenset()):
        """Carry out *plan*: add first, then change and restart in batches, then remove.

        Groups in *first* are removed before anything is added: what was adopted must not run beside
        what replaces it. Raises StartFailed, Stopped, or GearvisorError when a process does not stop.
        """
        by_program = collections.defaultdict(list)
        for group in plan.change + plan.restart:
            by_program[self._new[group].program].append(group)
        for program in {
            self._new[group].program for group in plan.add + plan.change + plan.restart
        }:
            self.readiness.look_before(
                program,
                [
                    (self._old.get(section.group), section)
                    for section in self._new.values()
                    if section.program == program
                ],
            )
        run(self.view, [self._remove(self._old[group]) for group in plan.remove if group in first])
        run(self.view, [self._starting.add(self._new[group]) for group in plan.add])
        steps = []
        self._unproved = set(by_program) if self._together else set()
        for program, groups in by_program.items():
            steps.append(self._in_batches(program, groups, frozenset(plan.restart)))
        steps += [self._starting.start(self._new[group]) for group in plan.start]
        steps += [self._remove(self._old[group]) for group in plan.remove if group not in first]
        run(self.view, steps)
        self.warnings += self.readiness.warnings()

    def _in_batches(self, program, groups, restarts):
        """Replace or restart the groups of one program, a batch at a time."""
        sections = [section for section in self._new.values() if section.program == program]
        batch = share(self._pace.batch, len(sections))
        limit = share(self._pace.max_unavailable or batch, len(sections))
        patience = self._pace.wait_timeout
        patience += max(seconds(section.options, "startsecs") for section in sections)
        waiting, first = list(groups), True
        while waiting and not self.view.halted:
            deadline = time.monotonic() + patience
            chosen = []
            while not chosen:
                processes = {
                    section.group: self.view.processes(section.group)
                    for section in sections
                    if should_be_up(section.options, self.view.processes(section.group))
                }
                chosen = next_batch(waiting, processes, batch, limit)
                if not chosen:
                    if time.monotonic() > deadline:
                        raise GearvisorError(
                            f"max_unavailable: {limit} does not let {program} go on: that many of its "
                            f"processes are not RUNNING after {patience} s. See 'supervisorctl status', "
                            "or raise max_unavailable"
                        )
                    yield
                    if self.view.halted:
                        return
            waiting = [group for group in waiting if group not in chosen]
            self.touched += chosen
            self._progress(program=program, total=len(groups), left=len(waiting), batch=chosen)
            yield from side_by_side(
                self.view,
                [
                    self._restart(self._new[group]) if group in restarts else self._replace(group)
                    for group in chosen
                ],
            )
            if first and not self.view.halted:
                yield from self._watch(program, chosen, waiting)
                self._unproved.discard(program)
                while self._unproved and not self.view.halted:
                    yield
            first = False

    def _watch(self, program, chosen, waiting):
        """Watch what the first batch does with its jobs. Raises Stopped."""
        settings = self._pace.watch
        if not settings.seconds or not self._pace.wait:
            return
        batch = [self._new[group] for group in chosen]
        peers = [self._old.get(group, self._new[group]) for group in waiting]
        serving = self.readiness.serving(program)
        if not any(status for _process, status in self._statuses(batch)):
            if serving.wanted or serving.others:
                self.verdicts[program] = watch.Verdict(0, 0, False)
                self.warnings.append(
                    f"{program}: its workers write no status files, so whether its jobs succeed was not "
                    "watched"
                )
            return
        watched = watch.Watch(
            settings,
            serving.before,
            sum(len(self.view.processes(section.group)) for section in batch),
            sum(len(self.view.processes(section.group)) for section in peers),
        )
        began, due = time.monotonic(), 0
        looks = {}
        while not self.view.halted:
            now = time.monotonic()
            busy = False
            for section in batch:
                self.readiness.check_running(section, looks)
            if now >= due:
                due = now + _WATCH_SECONDS
                for process, status in self._statuses(batch):
                    if status is not None:
                        watched.add(process, status)
                        busy = busy or status["job"] is not None
                for process, status in self._statuses(peers):
                    if status is not None:
                        watched.old.add(process, status)
                self._progress(program=program, jobs=watched.new.jobs, failed=watched.new.failed)
                verdict = watched.verdict(now - began, busy)
                if verdict is not None:
                    self.verdicts[program] = verdict
                    self._conclude(program, batch, verdict, now - began)
                    return
            yield

    def _statuses(self, sections):
        """Return [(process name, status or None)] of the sections' processes."""
        return [
            (process.full_name, self.readiness.status(section, process))
            for section in sections
            for process in self.view.processes(section.group)
        ]

    def _conclude(self, program, batch, verdict, took):
        if verdict.problem:
            first = self.view.processes(batch[0].group)
            raise Stopped(
                f"{program} failed in its first batch "
                f"({', '.join(section.group for section in batch)}) after {took:.0f} s: {verdict.problem}",
                program=program,
                reason=verdict.problem,
                output=self._supervisord.last_output(first[0].full_name) if first else "",
            )
        if not verdict.proved:
            self.warnings.append(
                f"{program}: its first batch finished {verdict.jobs} jobs in {took:.0f} s, {verdict.failed} of "
                f"them failed; with fewer than min_jobs: {self._pace.watch.min_jobs} nothing is proved"
            )

    def _stop(self, section):
        """Stop a group and wait for its jobs to end, stopwaitsecs at most; supervisord then kills."""
        before = list(self.view.processes(section.group))
        trees = [leftovers.tree(process.pid) for process in before if process.pid]
        self._supervisord.stop_group(section.group)
        yield

        def is_not_at_rest(process):
            if process.state in (RUNNING, BACKOFF):
                self._supervisord.stop_group(section.group)
            return process.state not in AT_REST

        yield from until_none(self.view, section, is_not_at_rest)
        yield from self._end_leftovers(section, before, trees)

    def _end_leftovers(self, section, before, trees):
        """Wait for what the processes have left behind in their process groups.

        With stopasgroup they have had the signal; else the workers among them get it here. Others
        may be what a job has started on purpose: those are named and left.
        """
        started = set().union(*trees)
        groups = [process.pid for process in before if process.pid]
        if len(started) <= len(groups):
            return
        signalled = is_true(section.options, "stopasgroup")
        deadline = time.monotonic() + seconds(section.options, "stopwaitsecs")
        while True:
            left = set().union(*(leftovers.members(group) for group in groups)) & started
            left -= {process.pid for process in self.view.processes(section.group)}
            workers = left if signalled else self._workers(section, left)
            if not left or (not workers and not signalled):
                break
            if not signalled:
                leftovers.signal_each(workers, _stop_signal(section))
                signalled, started = True, workers
            if time.monotonic() > deadline:
                raise GearvisorError(
                    f"{section.group} is stopped, but what it had started still runs: "
                    f"pid {', '.join(map(str, sorted(workers)))}. End it by hand; let the wrapper in its "
                    "command use exec, or set stopasgroup: true"
                )
            due = time.monotonic() + _LEFTOVER_SECONDS
            while time.monotonic() < due:
                yield
        if left:
            self.warnings.append(
                f"{section.group} has left processes behind, which go on: "
                f"pid {', '.join(map(str, sorted(left)))}"
            )

    def _workers(self, section, pids):
        """Return those of *pids* that serve job servers."""
        return leftovers.connected(pids, servers_of(section))

    def _remove(self, section):
        while True:
            yield from self._stop(section)
            try:
                self._supervisord.remove_group(section.group)
            except StillRunning:
                # It had just exited, counted as at rest, and was started again.
                yield
            else:
                return

    def _replace(self, group):
        # What runs has the old stopwaitsecs, as far as we know it.
        yield from self._remove(self._old.get(group, self._new[group]))
        yield from self._starting.add(self._new[group])

    def _restart(self, section):
        """Let every process of the group finish its job, leave, and be started again."""
        before = [process for process in self.view.processes(section.group) if process.pid]
        trees = [leftovers.tree(process.pid) for process in before]
        old_pids = {process.pid for process in before}
        running = {process.name for process in before}
        signalled = set()
        deadline = time.monotonic() + seconds(section.options, "stopwaitsecs") + KILL_SECONDS
        while True:
            staying = [
                process
                for process in self.view.processes(section.group)
                if process.pid in old_pids and process.state not in AT_REST
            ]
            if not staying or (self.view.halted and not signalled):
                break
            for process in staying:
                # A process that is younger may still be on its way to its own signal handlers.
                if process.state == RUNNING and process.seconds and process.pid not in signalled:
                    self._signal(section, process)
                    signalled.add(process.pid)
            if time.monotonic() > deadline:
                raise GearvisorError(
                    f"{staying[0].full_name} (pid {staying[0].pid}) still runs its old code: it did not leave "
                    f"within stopwaitsecs of SIG{_stop_signal(section)}. Nothing was killed; raise "
                    "stopwaitsecs above its longest job, or stop it with 'supervisorctl stop'"
                )
            yield
        yield from self._end_leftovers(section, before, trees)
        yield from self._starting.start(
            section, None if is_true(section.options, "autostart") else running
        )

    def _signal(self, section, process):
        """Send the stop signal, to the whole process group where supervisord would."""
        signal = _stop_signal(section)
        if is_true(section.options, "stopasgroup") and leftovers.signal_group(process.pid, signal):
            return
        self._supervisord.signal_process(process.full_name, signal)


def _stop_signal(section):
    return section.options.get("stopsignal", DEFAULTS["stopsignal"])
