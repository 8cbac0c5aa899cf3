# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one connection of the asyncio client, over which any number of submissions go."""

from __future__ import annotations

import asyncio
from collections import deque

from .aio_stream import Stream
from .client import Result, Submission
from .errors import GearmanError, ProtocolError, ServerUnavailable
from .protocol import Packet

_Waiting = tuple[Submission, "asyncio.Future[Result]"]


class Link:
    """The client's connection: sends submissions, and gives each packet to its recipient.

    A job server answers submissions in their order. Packets about a job come once for each of
    its submissions on this connection (several with one unique id are one job): so they are
    dealt out in turn.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.lost: GearmanError | None = None
        self._queued: deque[_Waiting] = deque()
        self._running: dict[bytes, deque[_Waiting]] = {}
        self._reading = asyncio.ensure_future(self._read())

    def submit(self, submission: Submission) -> asyncio.Future[Result]:
        if self.lost is not None:
            raise self.lost
        self.stream.send(submission.packet)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queued.append((submission, future))
        return future

    async def _read(self) -> None:
        try:
            while True:
                self._dispatch(*await self.stream.receive())
        except (ServerUnavailable, ProtocolError) as error:
            self._lose(error)

    def _dispatch(self, kind: Packet, arguments: list[bytes]) -> None:
        if kind in (Packet.JOB_CREATED, Packet.ERROR):
            if not self._queued:
                return
            waiting = self._queued.popleft()
            self._take(waiting, kind, arguments)
            if waiting[0].handle and not waiting[0].background:
                self._running.setdefault(waiting[0].handle, deque()).append(waiting)
        elif arguments:
            handle = arguments[0].rstrip(b"\0")
            waitings = self._running.get(handle)
            if waitings is None:
                return
            waiting = waitings.popleft()
            self._take(waiting, kind, arguments)
            if kind not in (Packet.WORK_COMPLETE, Packet.WORK_FAIL, Packet.WORK_EXCEPTION):
                waitings.append(waiting)
            elif not waitings:
                del self._running[handle]

    def _take(self, waiting: _Waiting, kind: Packet, arguments: list[bytes]) -> None:
        submission, future = waiting
        if future.done():  # its caller has left; its packets had to be taken all the same
            if not submission.handle and kind == Packet.JOB_CREATED:
                submission.handle = arguments[0]
            return
        try:
            result = submission.take(self.stream.server, kind, arguments)
        except Exception as error:  # of the job, or of a callback
            future.set_exception(error)
        else:
            if result is not None:
                future.set_result(result)

    def _lose(self, error: GearmanError) -> None:
        self.lost = error
        for waitings in (self._queued, *self._running.values()):
            for _submission, future in waitings:
                if not future.done():
                    future.set_exception(error)

    async def close(self) -> None:
        self._lose(ServerUnavailable(self.stream.server, "the client was closed"))
        self._reading.cancel()
        await self.stream.close()
