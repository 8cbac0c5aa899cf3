# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes a running gearmand to new jobs, while its workers finish what it has; and opens it again.

gearmand has no command for that. Its maxqueue is at least 1 and counts all jobs of a function, so
one job that never runs fills it: a delayed job, cancelled at once (sentinels.py). It counts until
it is due, no worker ever gets it, and no backend keeps it. What else was measured is
in docs/decisions/0008, what the journal has to do with it in 0032.
"""

from __future__ import annotations

import contextlib
import re
import time

from ..failure import GearvisorError
from ..gearvisor.admin import Admin
from ..gearvisor.errors import GearmanError
from ..gearvisor.protocol import MAX_FUNCTION
from ..host import journal
from ..host.process import Process
from .sentinels import Sentinels, without

KIND = "closed"
_TIMEOUT = 5
_POLL = 0.1
# What gearmand has in its buffers when the last job is done: answers on their way to clients.
_BUFFERED_SECONDS = 0.5
# How long a sentinel lasts: the next run after one that was killed waits no longer for it.
_SENTINEL_SECONDS = 30
# What is left of its life is enough to end gearmand.
_RENEWED_BEFORE = 15
# gearmand counts whole seconds, and its clock may be one behind.
_CLOCK_SECONDS = 1


class Drains(GearvisorError):
    """Jobs are left at the deadline; *left* is {function: FunctionStatus}."""

    def __init__(self, left):
        super().__init__("jobs are left at the deadline")
        self.left = left


def is_closable(function):
    """Return whether gearmand's admin commands can name the function: their words have no quotes."""
    size = len(function.encode(errors="surrogateescape"))
    return size <= MAX_FUNCTION and re.fullmatch(r"[^\0 \t\n\v\f\r]+", function)


class Intake:
    """The intake of the job server that *admin* is connected to.

    *limits* is {function: sizes}, the maxqueue that each function has when the intake is open;
    those not in it have none. *until*: the time (time.time()) when it is opened at the latest.
    """

    def __init__(self, admin, limits, until):
        self._admin = admin
        self._limits = limits
        self._until = until
        # {function: when its youngest sentinel is due}
        self._due = {}
        self._sentinels = Sentinels(admin)

    def close(self):
        """Let no function take new jobs, including those that did not exist before."""
        for function, jobs in self.status().items():
            if is_closable(function) and not self._is_closed(function, jobs):
                # One that is full would not take the sentinel either.
                self._admin.max_queue(function, 0)
                due = int(min(self._until, time.time() + _SENTINEL_SECONDS)) + 2
                self._sentinels.add(function, due)
                self._admin.max_queue(function, 1)
                self._due[function] = due

    def _is_closed(self, function, jobs):
        """Return whether it stays closed for a while; *jobs* are those that are not sentinels."""
        due = self._due.get(function)
        if due is None:
            return False
        lasts = due > self._until or due - time.time() >= _RENEWED_BEFORE
        return self._counted.get(function, 0) > 0 and (lasts or jobs.queued + jobs.running > 0)

    def status(self):
        """Return {function: FunctionStatus} without sentinels."""
        found = self._admin.status()
        # Asked for later, so that none counts that was not in the status: a job is not overlooked.
        self._counted = self._sentinels.count(
            name for name, jobs in found.items() if jobs.queued and is_closable(name)
        )
        return without(found, self._counted)

    def left(self):
        """Return {function: FunctionStatus} of the jobs that are not sentinels."""
        over = [name for name, due in self._due.items() if due + _CLOCK_SECONDS <= time.time()]
        if over:
            self._sentinels.clear(over)
        return {name: jobs for name, jobs in self.status().items() if jobs.queued or jobs.running}

    def open(self):
        """Let all functions take jobs again."""
        for function in filter(is_closable, self._admin.status()):
            if function in self._due or function in self._limits:
                self._admin.max_queue(function, *self._limits.get(function, (0,)))

    def forget(self):
        """Wait until gearmand counts no sentinel any more, or only behind other jobs, and not longer."""
        deadline = min(self._until, time.time() + _SENTINEL_SECONDS) + 2 + 3 * _CLOCK_SECONDS
        while True:
            jobs = self.status()
            ours = [name for name in self._counted if not jobs[name].queued]
            if not ours or time.time() >= deadline:
                return
            self._sentinels.clear(ours)
            time.sleep(_POLL)


@contextlib.contextmanager
def drained(host, process, admin, seconds, limits):
    """Close the intake and wait until all jobs are done; the block then ends gearmand.

    *process* is gearmand's. When jobs are left after so many seconds, or the block fails before it
    has ended gearmand, the intake is opened again. The journal knows of it meanwhile, so that the
    next run opens what a killed run has closed. Raises Drains, or GearvisorError when it cannot be
    closed.
    """
    deadline = time.monotonic() + seconds
    until = time.time() + seconds
    closed = {name: limits.get(name, (0,)) for name in admin.status() if is_closable(name)}
    entry = journal.note(
        host,
        KIND,
        server=admin.server,
        pid=process.pid,
        process=process.identity(),
        limits={name: list(sizes) for name, sizes in {**limits, **closed}.items()},
        until=until,
    )
    intake = Intake(admin, limits, until)
    try:
        _wait(intake, deadline)
        time.sleep(_BUFFERED_SECONDS)
        # For functions that did not exist until now.
        _wait(intake, deadline)
        yield
    except BaseException:
        # When gearmand is gone, so is all that was closed. When it does not answer, the note stays.
        with contextlib.suppress(GearmanError):
            if process.identity() is not None:
                intake.open()
                intake.forget()
            journal.forget(host, entry)
        raise
    journal.forget(host, entry)


def undo(host, facts):
    """Open what an interrupted run had closed (the journal's undo of this kind); return sentences."""
    if Process(facts["pid"], host.proc).identity() != facts["process"]:
        return ["the gearmand that it had closed to new jobs has ended since"]
    try:
        with Admin(facts["server"], _TIMEOUT) as admin:
            known = dict.fromkeys(admin.status(), (0,))
            intake = Intake(admin, {**known, **facts["limits"]}, facts["until"])
            intake.open()
            intake.forget()
    except GearmanError as error:
        raise GearvisorError(f"{facts['server']} does not answer: {error}") from error
    return [f"{facts['server']} takes new jobs again"]


def _wait(intake, deadline):
    while True:
        intake.close()
        left = intake.left()
        if not left:
            return
        if time.monotonic() >= deadline:
            raise Drains(left)
        time.sleep(_POLL)
