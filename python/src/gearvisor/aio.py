# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client and the worker for asyncio, on the same codec and conversation as the others.

The client keeps any number of submissions going over one connection. The worker is for functions
that wait (for a database, for example): it runs several jobs at once in one thread. Each of its
lanes is to the job servers a worker of its own, and does one job at a time over all of them.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Callable, Union

from .aio_link import Link
from .aio_serving import Serving
from .aio_stream import Stream
from .client import JobStatus, Result, Submission, parse_status
from .connection import format_server, parse_server, parse_servers
from .deadlines import Deadlines
from .errors import (
    JobException,
    JobFailed,
    JobTimeout,
    ProtocolError,
    ServerUnavailable,
    SubmitError,
)
from .housekeeping import Housekeeping
from .jobs import Job, is_async_callable
from .limits import Limits
from .protocol import MAX_PACKET, Packet, check_client_id, check_function, encode
from .session import Session
from .worker import default_client_id

if TYPE_CHECKING:
    import ssl

    from .failed_store import FailedStore

CHORES_EVERY = 0.5  # seconds

Function = Callable[[Job], Awaitable[Union[bytes, str, None]]]


class Client:
    """Submits jobs to one of several job servers; an async context manager.

    The arguments are those of gearvisor.client.Client. Any number of submit() may be under way at
    once, all over one connection.
    """

    def __init__(
        self,
        servers: Sequence[str],
        timeout: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        *,
        connect_timeout: float = 5.0,
    ) -> None:
        self._servers = parse_servers(servers)
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context
        self._link: Link | None = None
        self._connecting: asyncio.Lock | None = None  # made in the loop, for Python 3.9

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; submissions under way raise ServerUnavailable."""
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def submit(
        self, function: str, data: bytes = b"", *, timeout: float | None = None, **options: Any
    ) -> Result:
        """Submit a job and wait for its Result, as gearvisor.client.Client.submit does.

        The options, and what is raised, are the same; callbacks are plain functions. Cancelling
        it leaves the job where it is.
        """
        submission = Submission(function, data, **options)
        if timeout is None:
            timeout = self._timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        link = await self._ready(deadline)
        if deadline is not None and time.monotonic() >= deadline:
            raise ServerUnavailable(link.stream.server, "no time was left to ask it")
        future = link.submit(submission)

        async def answer() -> Result:
            await link.stream.drain()
            return await future

        limit = None if deadline is None else deadline - time.monotonic()
        try:
            return await asyncio.wait_for(answer(), limit)
        except asyncio.TimeoutError:
            raise JobTimeout(f"no answer from {link.stream.server} in time") from None
        finally:
            future.cancel()  # a no-op but for a submission that was given up

    async def status(self, result: Result, timeout: float = 5.0) -> JobStatus:
        """Ask how a job is doing, of the job server that took it.

        timeout: seconds for all of it. Raises ServerUnavailable, also when the time is over.
        """
        host, port = parse_server(result.server)
        started = time.monotonic()
        stream = await Stream.open(host, port, self._ssl_context, timeout)
        left = max(0.0, timeout - (time.monotonic() - started))
        try:
            stream.send(encode(Packet.GET_STATUS, result.handle.encode()))
            return parse_status(
                stream.server, await asyncio.wait_for(_next(stream, Packet.STATUS_RES), left)
            )
        except asyncio.TimeoutError:
            raise ServerUnavailable(stream.server, f"no answer in {timeout:g} s") from None
        finally:
            await stream.close()

    async def _ready(self, deadline: float | None) -> Link:
        """Return a link that is alive; tries the servers in random order."""
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        left = None if deadline is None else deadline - time.monotonic()
        try:
            await asyncio.wait_for(self._connecting.acquire(), left)
        except asyncio.TimeoutError:
            raise ServerUnavailable.of_all(
                [ServerUnavailable(format_server(*each), "timed out") for each in self._servers]
            ) from None
        try:
            if self._link is not None:
                if self._link.lost is None:
                    return self._link
                await self.close()
            failures = []
            for host, port in random.sample(self._servers, len(self._servers)):
                timeout = self._connect_timeout
                if deadline is not None:
                    timeout = min(timeout, deadline - time.monotonic())
                try:
                    stream = await self._connect(host, port, timeout)
                except ServerUnavailable as error:
                    failures.append(error)
                else:
                    self._link = Link(stream)
                    return self._link
            raise ServerUnavailable.of_all(failures)
        finally:
            self._connecting.release()

    async def _connect(self, host: str, port: int, timeout: float) -> Stream:
        if timeout <= 0:
            raise ServerUnavailable(format_server(host, port), "no time was left to try it")
        started = time.monotonic()
        stream = await Stream.open(host, port, self._ssl_context, timeout)
        try:
            # See gearvisor.client.Client for what this is good for.
            stream.send(encode(Packet.OPTION_REQ, b"exceptions"))
            left = max(0.0, timeout - (time.monotonic() - started))
            await asyncio.wait_for(stream.receive(), left)
        except asyncio.TimeoutError:
            stream.abort()
            raise ServerUnavailable(stream.server, f"no answer in {timeout:.3g} s") from None
        except ProtocolError as error:
            stream.abort()
            raise ServerUnavailable(stream.server, str(error)) from error
        except BaseException:  # cancelled, for one
            stream.abort()
            raise
        return stream


class Worker:
    """Serves async functions, `concurrency` jobs at a time: register() them, then await run().

    The options are those of gearvisor.worker.Worker. job_timeout cancels a job: the client gets
    JobTimeLimit as an exception, but only a function that awaits can be cancelled. One that goes
    on for deadlines.GRACE seconds more is ended with its process, as are the jobs beside it.
    stop_timeout needs run() in the main thread. A failed job that is kept holds up the others
    while it is written.

    counters: the jobs done and failed since the Worker was made.
    """

    def __init__(
        self,
        servers: Sequence[str],
        client_id: str | None = None,
        *,
        concurrency: int = 1,
        ssl_context: ssl.SSLContext | None = None,
        max_jobs: int | None = None,
        max_seconds: float | None = None,
        max_rss: float | None = None,
        splay: float = 0.1,
        job_timeout: float | None = None,
        stop_timeout: float | None = None,
        status_file: str | None = None,
        status_file_required: bool = True,
        failed_store: FailedStore | None = None,
        paused_dir: str | None = None,
        log_jobs: bool = False,
        max_packet: int = MAX_PACKET,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency!r} is not at least 1")
        self.client_id = client_id or default_client_id()
        self._client_id = check_client_id(self.client_id)
        self._house = Housekeeping(
            self.client_id,
            Limits(max_jobs, max_seconds, max_rss, splay),
            job_timeout=job_timeout,
            stop_timeout=stop_timeout,
            status_file=status_file,
            status_file_required=status_file_required,
            failed_store=failed_store,
            paused_dir=paused_dir,
            log_jobs=log_jobs,
        )
        self.counters = self._house.counters
        self._servers = parse_servers(servers)
        self._functions: dict[bytes, Function] = {}
        self._concurrency = concurrency
        self._deadlines = Deadlines(None, stop_timeout)
        self._max_packet = max_packet
        self._stop: asyncio.Event | None = None  # made in the loop, for Python 3.9
        self._serving = Serving(
            self._servers,
            self._functions,
            self._house,
            self._new_session,
            self.stop,
            ssl_context,
            job_timeout,
        )

    def register(self, name: str, function: Function) -> None:
        """Serve an async `function` under `name`; to be called before run().

        It gets a gearvisor.jobs.Job and returns or raises what a function of
        gearvisor.worker.Worker does.
        """
        encoded = check_function(name)
        if encoded in self._functions:
            raise ValueError(f"function {name!r} is registered already")
        if not is_async_callable(function):
            raise ValueError(f"function {name!r} is not async; serve it with gearvisor.worker")
        self._functions[encoded] = function
        self._house.register(encoded)

    def stop(self) -> None:
        """Make run() return after the running jobs. To be called in the loop's thread."""
        self._serving.stopping = True
        self._deadlines.stop()
        if self._stop is not None:
            self._stop.set()

    async def run(self, handle_signals: bool = False) -> None:
        """Serve until stop() or a limit, once. Lost job servers are tried again without limit.

        handle_signals: SIGTERM and SIGINT call stop(); a second one ends the process at once.
        """
        if not self._functions:
            raise ValueError("no function is registered; call register() first")
        if handle_signals:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
        self._stop = asyncio.Event()
        if self._serving.stopping:
            return
        self._deadlines.install()
        results: list[Any] = []
        try:
            self._house.start(time.monotonic(), self._serving.answering, self._concurrency)
            stop = asyncio.ensure_future(self._stop.wait())
            chores = asyncio.ensure_future(self._keep_house())
            lanes = [
                asyncio.ensure_future(self._serving.serve(*server, turn, number))
                for number, turn in enumerate(asyncio.Lock() for _turn in range(self._concurrency))
                for server in self._servers
            ]
            waiting: list[asyncio.Future[Any]] = [stop, chores, *lanes]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._serving.stopping = True
                stop.cancel()
                self._serving.cancel_idle()
                results += await asyncio.gather(*lanes, return_exceptions=True)
                chores.cancel()  # till here the status is written
                results += await asyncio.gather(chores, return_exceptions=True)
        finally:
            self._deadlines.remove()
            self._house.stop()
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _on_signal(self) -> None:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        self.stop()

    def _new_session(self) -> Session:
        paused = self._house.pauses.functions
        return Session(self._client_id, self._functions, paused, self._max_packet)

    async def _keep_house(self) -> None:
        """Write the status, look for limits and pauses, as long as the worker runs."""
        while True:
            if self._house.chores(time.monotonic()):
                self._serving.pause(self._house.pauses.functions)
            self._serving.check_limits()
            await asyncio.sleep(min(CHORES_EVERY, max(0.05, self._house.limits.seconds_left())))


async def _next(stream: Stream, wanted: Packet) -> list[bytes]:
    """Return the arguments of the next packet of that kind."""
    while True:
        kind, arguments = await stream.receive()
        if kind == wanted:
            return arguments


__all__ = [
    "Client",
    "Job",
    "JobException",
    "JobFailed",
    "JobStatus",
    "JobTimeout",
    "Result",
    "ServerUnavailable",
    "SubmitError",
    "Worker",
]
