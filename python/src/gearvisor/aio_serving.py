# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lanes of the asyncio worker: each serves all job servers, one job at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Union

from . import deadlines
from .aio_lane import Lane
from .aio_stream import Stream
from .connection import format_server
from .errors import JobFailed, JobTimeLimit, ProtocolError, ServerUnavailable
from .housekeeping import Housekeeping
from .job_servers import (
    ANSWER_TIMEOUT,
    ANSWER_TIMEOUT_BUSY,
    CONNECT_TIMEOUT,
    POLL,
    RETRY_FIRST,
    RETRY_MOST,
)
from .jobs import Job, completed, failure, log
from .protocol import Packet, encode
from .session import Assigned, NoJob, Session

if TYPE_CHECKING:
    import ssl

Function = Callable[[Job], Awaitable[Union[bytes, str, None]]]


class Serving:
    """What the lanes share. new_session: makes the conversation of a new connection.

    leave: called when a limit is reached. stopping: set it, and no further job is asked for.
    """

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        functions: Mapping[bytes, Function],
        house: Housekeeping,
        new_session: Callable[[], Session],
        leave: Callable[[], None],
        ssl_context: ssl.SSLContext | None,
        job_timeout: float | None,
    ) -> None:
        self.stopping = False
        self._servers = servers
        self._functions = functions
        self._house = house
        self._new_session = new_session
        self._leave = leave
        self._ssl_context = ssl_context
        self._job_timeout = job_timeout
        self._idle: set[asyncio.Task[Any]] = set()
        self._lanes: set[Lane] = set()
        self._up: dict[str, bool] = {}  # by job server, as last logged
        self._under_way = 0  # jobs

    def answering(self) -> dict[str, bool]:
        """Return whether each job server is connected and answers."""
        answering = {lane.server for lane in self._lanes if lane.answered}
        names = (format_server(*each) for each in self._servers)
        return {name: name in answering for name in names}

    def check_limits(self) -> None:
        """Leave, if a limit is reached."""
        reason = self._house.reason_to_leave(self._under_way)
        if reason is not None and not self.stopping:
            log.info("leaving: %s for one process reached", reason)
            self._leave()

    def pause(self, functions: Collection[bytes]) -> None:
        """Serve all functions but these."""
        for lane in self._lanes:
            lane.pause(functions)

    def cancel_idle(self) -> None:
        """End all that wait without a job."""
        for task in self._idle:
            task.cancel()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Where stop() may cancel: no job is assigned, and none has been asked for."""
        task = asyncio.current_task()
        if self.stopping or task is None:
            raise asyncio.CancelledError
        self._idle.add(task)
        try:
            yield
        finally:
            self._idle.discard(task)

    async def serve(self, host: str, port: int, turn: asyncio.Lock, number: int) -> None:
        """Serve one job server in one lane; `turn` is held by who of the lane may have a job."""
        pause = RETRY_FIRST
        while not self.stopping:
            lane = None
            try:
                with self._interruptible():
                    stream = await Stream.open(host, port, self._ssl_context, CONNECT_TIMEOUT)
                lane = Lane(stream, self._new_session(), number)
                self._lanes.add(lane)
                lane.send(lane.session.greet())
                with self._interruptible():
                    await lane.event(ANSWER_TIMEOUT)
                while not self.stopping:
                    with self._interruptible():
                        await turn.acquire()
                    try:
                        served = await self._serve_some(lane)
                    finally:
                        turn.release()
                    pause = RETRY_FIRST
                    if not served:
                        await self._sleep(lane)
            except (ServerUnavailable, ProtocolError) as error:
                self._lost(format_server(host, port), lane, error)
                with self._interruptible():
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, RETRY_MOST)
            finally:
                if lane is not None:
                    self._lanes.discard(lane)
                    await lane.stream.finish()

    def _lost(self, server: str, lane: Lane | None, error: Exception) -> None:
        """Log it, once for all lanes."""
        if lane is not None:
            lane.log_unconfirmed()
        if self._up.get(server) is not False:
            log.warning("job server is away, trying again: %s", error)
        self._up[server] = False

    async def _serve_some(self, lane: Lane) -> bool:
        """Ask for a job and do it, and more while no other job server is to have a turn.

        Returns whether there was one at last.
        """
        lane.send(lane.session.ask())
        patience = ANSWER_TIMEOUT if len(self._servers) == 1 else ANSWER_TIMEOUT_BUSY
        while True:
            event = await lane.event(patience)
            if not isinstance(event, (Assigned, NoJob)):
                continue
            lane.answered = True
            if not self._up.get(lane.server):
                log.info("serving %s as %s", lane.server, self._house.counters.client_id)
                self._up[lane.server] = True
            if isinstance(event, NoJob):
                return False
            data = lane.session.answer(await self._perform(lane, event))
            self.check_limits()
            more = len(self._servers) == 1 and not self.stopping
            lane.send(data + lane.session.ask() if more else data)
            self._house.recorder.answered(lane.number)
            await lane.stream.drain()
            if not more:
                return True

    async def _sleep(self, lane: Lane) -> None:
        """Wait for a NOOP, for a second at most; then for a sign of life."""
        lane.send(lane.session.sleep())
        with self._interruptible():
            if await lane.event_within(POLL) is None:
                lane.send(lane.session.probe())
                await lane.event(ANSWER_TIMEOUT)

    async def _perform(self, lane: Lane, assigned: Assigned) -> bytes:
        """Do a job and return its one final packet."""
        handle, name, _unique, _data = assigned
        job = Job(lane.send, *assigned)
        function = self._functions.get(name)
        if function is None:
            log.error(
                "job %s is for %s, which this worker does not serve", job.handle, job.function
            )
            return encode(Packet.WORK_FAIL, handle)
        self._house.recorder.start(job, lane.number)
        self._under_way += 1
        started = time.monotonic()
        error: Exception | None = None
        final = b""
        try:
            final = completed(job, handle, await self._result(function, job))
        except Exception as raised:
            error = raised
        self._under_way -= 1
        job.over()
        if error is not None:
            final = failure(handle, error)
        self._house.recorder.end(job, time.monotonic() - started, error)
        return final

    async def _result(self, function: Function, job: Job) -> bytes | str | None:
        """Return what the function returns; raises what it raises, and JobTimeLimit."""
        task = asyncio.ensure_future(_call(function, job))
        done, _pending = await asyncio.wait({task}, timeout=self._job_timeout)
        if not done:
            task.cancel()
            done, _pending = await asyncio.wait({task}, timeout=deadlines.GRACE)
            if not done:
                deadlines.leave(
                    f"a job went on for {deadlines.GRACE:g} s past the limit of"
                    f" {self._job_timeout:g} s"
                )
            raise JobTimeLimit(f"over the limit of {self._job_timeout:g} s")
        if task.cancelled():  # by itself: not a word to this worker's own task
            raise JobFailed("the function was cancelled")
        return task.result()


async def _call(function: Function, job: Job) -> bytes | str | None:
    try:
        return await function(job)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, for one: it would end the loop, and the worker
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
