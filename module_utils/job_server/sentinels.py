# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs that hold a function closed: delayed, cancelled at once, and counted until they are due.

Their unique ids mark them as such, so that gearmand itself can be asked for them: they are never
taken for a client's jobs, whichever run submitted them.
"""

from __future__ import annotations

import hashlib
import time

from ..failure import GearvisorError
from ..gearvisor.admin import Admin
from ..gearvisor.connection import Connection, parse_server
from ..gearvisor.errors import ServerUnavailable
from ..gearvisor.protocol import Packet, encode

_TIMEOUT = 5
# One that holds a function, and one that takes its place.
_EACH = 2
_MOST_AT_ONCE = 500


class Sentinels:
    """Those of the job server that *admin* is connected to."""

    def __init__(self, admin: Admin):
        self._server = admin.server
        self._admin = admin
        self._connection = Connection(*parse_server(admin.server), _TIMEOUT)

    def count(self, functions):
        """Return {function: number} of those that gearmand counts now; without those of none."""
        asked = [(each, unique) for each in functions for unique in _uniques(each)]
        result = {}
        for start in range(0, len(asked), _MOST_AT_ONCE):
            some = asked[start : start + _MOST_AT_ONCE]
            self._send(*(encode(Packet.GET_STATUS_UNIQUE, unique) for _each, unique in some))
            for function, _unique in some:
                if self._receive(Packet.STATUS_RES_UNIQUE)[1][1] == b"1":
                    result[function] = result.get(function, 0) + 1
        return result

    def add(self, function, due):
        """Have one more job of the function counted until the time *due*, in whole seconds.

        Raises GearvisorError when gearmand refuses it.
        """
        unused = [unique for unique in _uniques(function) if not self._is_known(unique)]
        if not unused:
            return
        job = (_bytes(function), unused[0], str(due).encode(), b"")
        self._send(encode(Packet.SUBMIT_JOB_EPOCH, *job))
        kind, arguments = self._receive(Packet.JOB_CREATED, Packet.ERROR)
        if kind == Packet.ERROR:
            raise GearvisorError(
                f"gearmand refuses delayed jobs for {function!r}, without which it cannot be closed to new "
                "jobs. Use restart: auto or force"
            )
        self._admin.cancel(arguments[0].decode())

    def clear(self, functions):
        """Have gearmand take those that are due off its queue, where no other job is before them.

        A worker that announces its sleep is given no job, but what is cancelled is cleared away.
        """
        for function in functions:
            name = _bytes(function)
            self._send(encode(Packet.CAN_DO, name), encode(Packet.PRE_SLEEP))
            self._send(encode(Packet.CANT_DO, name))
        # Its answer comes after all that was done before.
        self._send(encode(Packet.ECHO_REQ, b"done"))
        self._receive(Packet.ECHO_RES)

    def _is_known(self, unique):
        self._send(encode(Packet.GET_STATUS_UNIQUE, unique))
        return self._receive(Packet.STATUS_RES_UNIQUE)[1][1] == b"1"

    def _send(self, *packets):
        self._connection.send(b"".join(packets))

    def _receive(self, *kinds):
        """Return the next packet of these kinds: a sleeping worker is also sent NOOPs."""
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            packet = self._connection.receive(_TIMEOUT)
            if packet is not None and packet[0] in kinds:
                return packet
        raise ServerUnavailable(self._server, f"no answer in {_TIMEOUT} s")


def without(status, counted):
    """Return {function: FunctionStatus} without *counted* {function: sentinels}."""
    return {
        name: jobs._replace(queued=max(jobs.queued - counted.get(name, 0), 0))
        for name, jobs in status.items()
    }


def _uniques(function):
    digest = hashlib.sha256(_bytes(function)).hexdigest()[:32]
    return [f"gvr:closed:{digest}:{number}".encode() for number in range(_EACH)]


def _bytes(function):
    return function.encode(errors="surrogateescape")
