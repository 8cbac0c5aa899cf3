# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts process groups and waits until they are up; generators, as rollout.py runs them."""

from __future__ import annotations

import time

from ..failure import GearvisorError
from .plan import finishes, is_true, seconds
from .readiness import StartFailed
from .rpc import AT_REST, EXITED, FATAL, RUNNING, STOPPING

# supervisord kills a process that outlives stopwaitsecs; this is what it gets for that.
KILL_SECONDS = 15


class Starting:
    """Starts groups and waits until they are up."""

    def __init__(self, supervisord, view, pace, readiness):
        self._supervisord = supervisord
        self._view = view
        self._pace = pace
        self._readiness = readiness

    def add(self, section):
        self._supervisord.add_group(section.group)
        self._view.forget(section.group)
        yield
        yield from self.until_up(section)

    def start(self, section, names=None):
        """Start the group's processes that are at rest; only those in *names*, if given."""
        # Left by an interrupted run: supervisord cannot start what it is stopping.
        yield from until_none(self._view, section, lambda process: process.state == STOPPING)
        for process in self._view.processes(section.group):
            if process.state in AT_REST and (names is None or process.name in names):
                self._supervisord.start_process(process.full_name)
        yield
        yield from self.until_up(section)

    def until_up(self, section):
        """Wait for RUNNING, which supervisord grants after startsecs, and more. Raises StartFailed."""
        if not self._pace.wait or not is_true(section.options, "autostart"):
            return
        deadline = (
            time.monotonic() + self._pace.wait_timeout + seconds(section.options, "startsecs")
        )
        while not self._view.halted:
            processes = self._view.processes(section.group)
            pending = [
                process for process in processes if not _has_started(process, section.options)
            ]
            if not pending:
                break
            for process in pending:
                if process.state == FATAL or time.monotonic() > deadline:
                    self._fail(process)
            yield
        yield from self._readiness.until_up(section)

    def _fail(self, process):
        output = self._supervisord.last_output(process.full_name)
        reason = process.reason or f"it is {process.state} after {self._pace.wait_timeout} s"
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


def until_none(view, section, condition):
    """Wait until no process of a stopping group meets *condition*. Raises GearvisorError."""
    deadline = time.monotonic() + seconds(section.options, "stopwaitsecs") + KILL_SECONDS
    while any(condition(process) for process in view.processes(section.group)):
        if time.monotonic() > deadline:
            raise GearvisorError(
                f"{section.group} does not stop, not even by SIGKILL. See 'supervisorctl status {section.group}:*'"
            )
        yield
