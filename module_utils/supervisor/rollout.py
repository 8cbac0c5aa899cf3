# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a plan on a running supervisord.

Every step is a generator that yields while it waits; run() takes one look at
all processes a round and then moves every step on. So programs proceed side by
side, each in its own batches, without threads.
"""

from __future__ import annotations

import collections
import time

from ..failure import GearvisorError
from .options import DEFAULTS
from .plan import finishes, is_true, next_batch, seconds, should_be_up
from .rpc import AT_REST, BACKOFF, EXITED, FATAL, RUNNING, STOPPING, StillRunning

# supervisord kills a process that outlives stopwaitsecs; this is what it gets for that.
_KILL_SECONDS = 15
_ROUND_SECONDS = 0.1


class StartFailed(GearvisorError):
    """A process did not reach RUNNING."""


class View:
    """All processes as of the last look, by group."""

    def __init__(self, supervisord):
        self._supervisord = supervisord
        self.groups = {}

    def refresh(self):
        groups = collections.defaultdict(list)
        for process in self._supervisord.processes():
            groups[process.group].append(process)
        self.groups = dict(groups)

    def processes(self, group):
        return self.groups.get(group, [])


def run(view, steps):
    """Move all generators in *steps* on, round by round, until each is done."""
    steps = list(steps)
    while steps:
        view.refresh()
        steps = [step for step in steps if next(step, "done") != "done"]
        if steps:
            time.sleep(_ROUND_SECONDS)


def carry_out(supervisord, plan, old, new, batch, max_unavailable, wait, wait_timeout):
    """Do what *plan* says: add first, then change and restart in batches, then remove.

    *old* and *new* are {group: Section}. Raises StartFailed, or GearvisorError
    when a process does not stop.
    """
    view = View(supervisord)
    starting = _Starting(supervisord, view, wait, wait_timeout)
    run(view, [starting.add(new[group]) for group in plan.add])
    rolls = collections.defaultdict(list)
    for group in plan.change:
        rolls[new[group].program].append(
            (group, _replace(supervisord, view, starting, old, new, group))
        )
    for group in plan.restart:
        rolls[new[group].program].append((group, _restart(supervisord, view, starting, new[group])))
    members = collections.defaultdict(list)
    for section in new.values():
        members[section.program].append(section)
    run(
        view,
        [
            _in_batches(
                view, program, steps, members[program], batch, max_unavailable, wait_timeout
            )
            for program, steps in rolls.items()
        ]
        + [starting.start(new[group]) for group in plan.start]
        + [_remove(supervisord, view, old[group]) for group in plan.remove],
    )


def _in_batches(view, program, steps, sections, batch, max_unavailable, wait_timeout):
    """Run the steps of one program, a batch at a time."""
    steps = dict(steps)
    limit = max_unavailable or batch
    patience = wait_timeout + max(seconds(section.options, "startsecs") for section in sections)
    while steps:
        deadline = time.monotonic() + patience
        chosen = []
        while not chosen:
            processes = {
                section.group: view.processes(section.group)
                for section in sections
                if should_be_up(section.options, view.processes(section.group))
            }
            chosen = next_batch(list(steps), processes, batch, limit)
            if not chosen:
                if time.monotonic() > deadline:
                    raise GearvisorError(
                        f"max_unavailable: {limit} does not let {program} go on: that many of its "
                        f"processes are not RUNNING after {patience} s. See 'supervisorctl status', "
                        "or raise max_unavailable"
                    )
                yield
        going = [steps.pop(group) for group in chosen]
        while going:
            going = [step for step in going if next(step, "done") != "done"]
            if going:
                yield


class _Starting:
    """Starts groups and waits until they run."""

    def __init__(self, supervisord, view, wait, wait_timeout):
        self._supervisord = supervisord
        self._view = view
        self._wait = wait
        self._timeout = wait_timeout

    def add(self, section):
        self._supervisord.add_group(section.group)
        yield
        yield from self.until_running(section)

    def start(self, section, names=None):
        """Start the group's processes that are at rest; only those in *names*, if given."""
        # Left by an interrupted run: supervisord cannot start what it is stopping.
        yield from _until_none(self._view, section, lambda process: process.state == STOPPING)
        for process in self._view.processes(section.group):
            if process.state in AT_REST and (names is None or process.name in names):
                self._supervisord.start_process(process.full_name)
        yield
        yield from self.until_running(section)

    def until_running(self, section):
        """Wait for RUNNING, which supervisord grants after startsecs. Raises StartFailed."""
        if not self._wait or not is_true(section.options, "autostart"):
            return
        deadline = time.monotonic() + self._timeout + seconds(section.options, "startsecs")
        while True:
            processes = self._view.processes(section.group)
            pending = [
                process for process in processes if not _has_started(process, section.options)
            ]
            if not pending:
                return
            for process in pending:
                if process.state == FATAL or time.monotonic() > deadline:
                    self._fail(process)
            yield

    def _fail(self, process):
        output = self._supervisord.last_output(process.full_name)
        reason = process.reason or f"it is {process.state} after {self._timeout} s"
        raise StartFailed(
            f"{process.full_name} does not start: {reason}",
            process=process.full_name,
            reason=reason,
            output=output,
        )


def _has_started(process, options):
    if process.state == RUNNING:
        return True
    return finishes(options) and process.state == EXITED


def _stop(supervisord, view, section):
    """Stop a group and wait for its jobs to end, stopwaitsecs at most; supervisord then kills."""
    supervisord.stop_group(section.group)
    yield

    def is_not_at_rest(process):
        if process.state in (RUNNING, BACKOFF):
            supervisord.stop_group(section.group)
        return process.state not in AT_REST

    yield from _until_none(view, section, is_not_at_rest)


def _until_none(view, section, condition):
    """Wait until no process of a stopping group meets *condition*. Raises GearvisorError."""
    deadline = time.monotonic() + seconds(section.options, "stopwaitsecs") + _KILL_SECONDS
    while any(condition(process) for process in view.processes(section.group)):
        if time.monotonic() > deadline:
            raise GearvisorError(
                f"{section.group} does not stop, not even by SIGKILL. See 'supervisorctl status {section.group}:*'"
            )
        yield


def _remove(supervisord, view, section):
    while True:
        yield from _stop(supervisord, view, section)
        try:
            supervisord.remove_group(section.group)
        except StillRunning:
            # It had just exited, counted as at rest, and was started again.
            yield
        else:
            return


def _replace(supervisord, view, starting, old, new, group):
    # What runs has the old stopwaitsecs, as far as we know it.
    yield from _remove(supervisord, view, old.get(group, new[group]))
    yield from starting.add(new[group])


def _restart(supervisord, view, starting, section):
    """Let every process of the group finish its job, leave, and be started again."""
    signal = section.options.get("stopsignal", DEFAULTS["stopsignal"])
    old_pids = {process.pid for process in view.processes(section.group) if process.pid}
    running = {process.name for process in view.processes(section.group) if process.pid}
    signalled = set()
    deadline = time.monotonic() + seconds(section.options, "stopwaitsecs") + _KILL_SECONDS
    while True:
        staying = [
            process
            for process in view.processes(section.group)
            if process.pid in old_pids and process.state not in AT_REST
        ]
        if not staying:
            break
        for process in staying:
            # A process that is younger may still be on its way to its own signal handlers.
            if process.state == RUNNING and process.seconds and process.pid not in signalled:
                supervisord.signal_process(process.full_name, signal)
                signalled.add(process.pid)
        if time.monotonic() > deadline:
            raise GearvisorError(
                f"{staying[0].full_name} (pid {staying[0].pid}) still runs its old code: it did not leave "
                f"within stopwaitsecs of SIG{signal}. Nothing was killed; raise stopwaitsecs above its "
                "longest job, or stop it with 'supervisorctl stop'"
            )
        yield
    yield from starting.start(section, None if is_true(section.options, "autostart") else running)
