# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out whether a job server gives a job that lost its worker to another one.

gearmand's --job-retries counts every assignment, and nothing shows its value. With 1, a job that is
assigned to a worker that dies is gone, also when that worker had not begun it. So a worker asks
for no job ahead there. It finds out with a job of its own: a foreground one, which is never
stored, for a function that no other worker serves.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .connection import Connection
from .errors import GearmanError
from .protocol import Packet, encode

TIMEOUT = 2.0  # seconds for all of it
PAUSE = 0.005  # seconds between two questions


def hands_out_again(connect: Callable[[], Connection]) -> bool:
    """Whether a job is handed out again; false, too, when that does not show in time."""
    name = b"gearvisor-retries-%d-%s" % (os.getpid(), os.urandom(4).hex().encode())
    connections: list[Connection] = []
    ends = time.monotonic() + TIMEOUT

    def opened() -> Connection:
        connections.append(connect())
        return connections[-1]

    try:
        client, first, second = opened(), opened(), opened()
        client.send(encode(Packet.SUBMIT_JOB, name, name[-63:], b""))
        _receive(client, Packet.JOB_CREATED, ends)
        for worker in (first, second):
            worker.send(encode(Packet.CAN_DO, name))
        first.send(encode(Packet.GRAB_JOB_UNIQ))
        _receive(first, Packet.JOB_ASSIGN_UNIQ, ends)
        first.close()
        while time.monotonic() < ends:
            if client.receive(0) is not None:  # it failed
                return False
            second.send(encode(Packet.GRAB_JOB_UNIQ))
            kind, arguments = _receive(second, None, ends)
            if kind == Packet.JOB_ASSIGN_UNIQ:
                second.send(encode(Packet.WORK_COMPLETE, arguments[0], b""))
                _receive(client, Packet.WORK_COMPLETE, ends)
                return True
            time.sleep(PAUSE)
        return False
    except GearmanError:
        return False
    finally:
        for connection in connections:
            connection.close()
        _forget(connect, name)


def _receive(
    connection: Connection, wanted: Packet | None, ends: float
) -> tuple[Packet, list[bytes]]:
    """Return the next packet, of that kind if one is given; raises GearmanError."""
    while True:
        packet = connection.receive(max(0.0, ends - time.monotonic()))
        if packet is None:
            raise GearmanError("no answer in time")
        if wanted in (None, packet[0]):
            return packet


def _forget(connect: Callable[[], Connection], name: bytes) -> None:
    """Stop the job server's `status` from showing the function without end.

    It refuses while it has not seen yet that the workers are gone.
    """
    try:
        connection = connect()
        for _try in range(20):
            connection.send(b"drop function %s\r\n" % name)
            if (connection.read(TIMEOUT) or b"").startswith(b"OK"):
                break
            time.sleep(PAUSE)
        connection.close()
    except GearmanError:
        pass  # an empty row in `status`
