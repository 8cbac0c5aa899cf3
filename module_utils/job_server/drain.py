# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes a running gearmand to new jobs, while its workers finish what it has; and opens it again.

gearmand has no command for that. Its maxqueue is at least 1 and counts all jobs of a function, so
one job that never runs fills it: a delayed job, cancelled at once, called a sentinel here. It
counts until it is due, no worker ever gets it, and no backend keeps it. What else was measured is
in docs/decisions/0008, what the journal has to do with it in 0032.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from ..failure import GearvisorError
from ..gearvisor.admin import Admin
from ..gearvisor.connection import Connection, parse_server
from ..gearvisor.errors import GearmanError
from ..gearvisor.protocol import MAX_FUNCTION, Packet, encode
from ..host import journal
from ..host.process import Process

KIND = "closed"
_TIMEOUT = 5
_POLL = 0.1
# What gearmand has in its buffers when the last job is done: answers on their way to clients.
_BUFFERED_SECONDS = 0.5
# How long a sentinel lasts. A run that is killed leaves the functions closed no longer than that,
# and the next run waits no longer until it can clear the sentinels away.
_SENTINEL_SECONDS = 20
_RENEWED_BEFORE = 5
# gearmand counts whole seconds, and its clock may be one behind.
_CLOCK_SECONDS = 1


class Drains(GearvisorError):
    """Jobs are left at the deadline; *left* is {function: FunctionStatus}."""

    def __init__(self, left):
        super().__init__("jobs are left at the deadline")
        self.left = left


def is_closable(function):
    """Return whether gearmand's admin commands can name the function: their words have no quotes."""
    return len(_bytes(function)) <= MAX_FUNCTION and re.fullmatch(r"[^\0 \t\n\v\f\r]+", function)


class Intake:
    """The intake of the job server that *admin* is connected to.

    *limits* is {function: sizes}, the maxqueue that each function has when the intake is open;
    those not in it have none. *until*: the time (time.time()) when it is opened at the latest.
    """

    def __init__(self, admin, limits, until):
        self._admin = admin
        self._limits = limits
        self._until = until
        # {function: [when its sentinels are due]}
        self._sentinels = {}
        self._connection = Connection(*parse_server(admin.server), _TIMEOUT)

    def close(self):
        """Let no function take new jobs, including those that did not exist before."""
        now = time.time()
        for function in filter(is_closable, self._admin.status()):
            due = self._sentinels.setdefault(function, [])
            if due and due[-1] - now >= _RENEWED_BEFORE:
                continue
            # One that is full would not take the sentinel either.
            self._admin.max_queue(function, 0)
            self._admin.cancel(self._sentinel(function))
            self._admin.max_queue(function, 1)
        self._clear(now)

    def left(self):
        """Return {function: FunctionStatus} of the jobs that are not ours."""
        now = time.time()
        status = self._admin.status()
        result = {}
        for name, jobs in status.items():
            # Of a sentinel that is due nobody knows whether it is still counted.
            ours = sum(due > now + _CLOCK_SECONDS for due in self._sentinels.get(name, ()))
            if jobs.running or jobs.queued > ours:
                result[name] = jobs._replace(queued=max(jobs.queued - ours, 0))
        return result

    def open(self, functions=()):
        """Let all functions that were closed, and *functions*, take jobs again."""
        for function in {*self._sentinels, *functions}:
            self._admin.max_queue(function, *self._limits.get(function, (0,)))

    def forget(self):
        """Wait until the sentinels are due and see that they are counted no longer."""
        due = [due for dues in self._sentinels.values() for due in dues]
        if due:
            time.sleep(max(0, max(due) + _CLOCK_SECONDS - time.time()))
            self._clear(time.time() + _CLOCK_SECONDS)

    def adopt(self, functions):
        """Take over what another run closed and cannot be asked about."""
        due = min(self._until, time.time() + _SENTINEL_SECONDS) + _CLOCK_SECONDS
        for function in functions:
            self._sentinels.setdefault(function, []).append(due)

    def _clear(self, now):
        """Have gearmand clear away the sentinels that were due at *now*."""
        over = []
        for function, dues in self._sentinels.items():
            if any(due + _CLOCK_SECONDS <= now for due in dues):
                over.append(function)
                self._sentinels[function] = [due for due in dues if due + _CLOCK_SECONDS > now]
        # A worker that says it goes to sleep is given no job, but what is cancelled is cleared away.
        for function in over:
            name = _bytes(function)
            self._connection.send(encode(Packet.CAN_DO, name) + encode(Packet.PRE_SLEEP))
            self._connection.send(encode(Packet.CANT_DO, name))
        if not over:
            return
        # Its answer comes after all that was done before.
        self._connection.send(encode(Packet.ECHO_REQ, b"done"))
        self._receive(Packet.ECHO_RES)

    def _sentinel(self, function):
        """Submit a sentinel; return its handle."""
        unique = os.urandom(16).hex().encode()
        due = int(min(self._until, time.time() + _SENTINEL_SECONDS)) + 2
        packet = encode(Packet.SUBMIT_JOB_EPOCH, _bytes(function), unique, str(due).encode(), b"")
        self._connection.send(packet)
        answer = self._receive(Packet.JOB_CREATED, Packet.ERROR)
        if answer is None or answer[0] != Packet.JOB_CREATED:
            raise GearvisorError(
                f"gearmand takes no delayed job for {function!r}, without which it cannot be closed to new "
                "jobs. Use restart: auto or force"
            )
        self._sentinels[function].append(due)
        return answer[1][0].decode()

    def _receive(self, *kinds):
        """Return the next packet of these kinds: a sleeping worker is also sent NOOPs."""
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            packet = self._connection.receive(_TIMEOUT)
            if packet is None or packet[0] in kinds:
                return packet
        return None


def _bytes(function):
    return function.encode(errors="surrogateescape")


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
            functions = [name for name in admin.status() if is_closable(name)]
            intake = Intake(admin, facts["limits"], facts["until"])
            intake.open(functions)
            if time.time() < facts["until"] + _SENTINEL_SECONDS:
                intake.adopt(functions)
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
