# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes a running gearmand to new jobs, while its workers finish what it has; and opens it again.

gearmand has no command for that. Its maxqueue is at least 1 and counts all jobs of a function, so
one job that never runs fills it: a delayed job, cancelled at once. It counts until it is due, no
worker ever gets it, and no backend keeps it. docs/decisions/0008 tells what else was measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ..failure import GearvisorError
from ..gearvisor.connection import Connection, parse_server
from ..gearvisor.errors import GearmanError
from ..gearvisor.protocol import Packet, encode

_TIMEOUT = 5
_POLL = 0.1
# What gearmand has in its buffers when the last job is done: answers on their way to clients.
_SETTLE = 0.5


class Drains(GearvisorError):
    """Jobs are left at the deadline; *left* is {function: FunctionStatus}."""

    def __init__(self, left):
        super().__init__("jobs are left at the deadline")
        self.left = left


class Intake:
    """The intake of the job server that *admin* is connected to; can be closed for *seconds*.

    *limits* is {function: sizes}, the maxqueue that each function has when the intake is open;
    those not in it have none.
    """

    def __init__(self, admin, seconds, limits):
        self._admin = admin
        self._limits = limits
        # gearmand counts whole seconds.
        self._due = int(time.time() + seconds) + 2
        self._closed = set()
        self._connection = Connection(*parse_server(admin.server), _TIMEOUT)

    def close(self):
        """Let no function take new jobs, those included that nobody had named before."""
        for function in set(self._admin.status()) - self._closed:
            # One that is full would not take the delayed job either.
            self._admin.max_queue(function, 0)
            self._admin.cancel(self._delayed_job(function))
            self._admin.max_queue(function, 1)
            self._closed.add(function)

    def left(self):
        """Return {function: FunctionStatus} of the jobs that are not ours."""
        return {
            name: jobs._replace(queued=jobs.queued - (name in self._closed))
            for name, jobs in self._admin.status().items()
            if jobs.running or jobs.queued > (name in self._closed)
        }

    def open(self):
        """Let all functions take jobs again."""
        for function in self._closed:
            self._admin.max_queue(function, *self._limits.get(function, (0,)))

    def forget(self):
        """Wait until the delayed jobs are due and see that they are counted no longer."""
        # gearmand's clock may be a second behind.
        time.sleep(max(0, self._due - time.time()) + 1)
        # A worker that says it goes to sleep is given no job, but what is cancelled is cleared away.
        for function in self._closed:
            name = function.encode()
            self._connection.send(encode(Packet.CAN_DO, name) + encode(Packet.PRE_SLEEP))
            self._connection.send(encode(Packet.CANT_DO, name))
        # Its answer comes after all that was done before.
        self._connection.send(encode(Packet.ECHO_REQ, b"done"))
        while True:
            packet = self._connection.receive(_TIMEOUT)
            if packet is None or packet[0] == Packet.ECHO_RES:
                return

    def _delayed_job(self, function):
        unique = os.urandom(16).hex().encode()
        due = str(self._due).encode()
        self._connection.send(encode(Packet.SUBMIT_JOB_EPOCH, function.encode(), unique, due, b""))
        packet = self._connection.receive(_TIMEOUT)
        if packet is None or packet[0] != Packet.JOB_CREATED:
            raise GearvisorError(
                f"gearmand takes no delayed job for {function!r}, without which it cannot be closed to new "
                "jobs. Use restart: auto or force"
            )
        return packet[1][0].decode()


@contextlib.contextmanager
def drained(admin, seconds, limits):
    """Close the intake and wait until all jobs are done; the block then ends gearmand.

    When jobs are left after so many seconds, or the block fails before it has ended gearmand, the
    intake is opened again. Raises Drains, or GearvisorError when it cannot be closed.
    """
    deadline = time.monotonic() + seconds
    with _signals_raise():
        intake = Intake(admin, seconds, limits)
        try:
            _wait(intake, deadline)
            time.sleep(_SETTLE)
            # For functions that nobody had named until now.
            _wait(intake, deadline)
            yield
        except BaseException as error:
            with contextlib.suppress(GearmanError):
                intake.open()
                if isinstance(error, Drains):
                    intake.forget()
            raise


def _wait(intake, deadline):
    while True:
        intake.close()
        left = intake.left()
        if not left:
            return
        if time.monotonic() >= deadline:
            raise Drains(left)
        time.sleep(_POLL)


@contextlib.contextmanager
def _signals_raise():
    """Turn the signals by which a run is cut off into an exception, so that the intake opens again."""

    def stop(number, _frame):
        raise GearvisorError(f"The run was cut off by signal {number}")

    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
