# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client and the worker for asyncio, on the same codec as the others.

The client keeps any number of submissions going over one connection. The worker is for functions
that wait (for a database, say): it runs several jobs at once in one thread. Each of its lanes is
to the job servers a worker of its own, and does one job at a time over all of them.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Union

from .client import JobStatus, Result, Submission, parse_status
from .connection import cause, format_server, parse_server, parse_servers, set_tcp_options
from .counters import Counters, Tally
from .errors import (
    GearmanError,
    JobException,
    JobFailed,
    JobTimeLimit,
    JobTimeout,
    ProtocolError,
    ServerUnavailable,
    SubmitError,
)
from .jobs import Job, completed, failed, is_async, log, log_fields
from .protocol import Decoder, Packet, check_client_id, check_function, encode
from .worker import (
    ANSWER_TIMEOUT,
    ANSWER_TIMEOUT_BUSY,
    CONNECT_TIMEOUT,
    POLL,
    RETRY_FIRST,
    RETRY_MOST,
    default_client_id,
    no_answer,
    unasked,
)

if TYPE_CHECKING:
    import ssl

_READ = 65536  # bytes a read

Function = Callable[[Job], Awaitable[Union[bytes, str, None]]]


class _Stream:
    """A connection to a job server; each method raises ServerUnavailable when the peer is gone."""

    def __init__(
        self, server: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()
        self.received = 0  # bytes

    @classmethod
    async def open(
        cls, host: str, port: int, context: ssl.SSLContext | None, timeout: float
    ) -> _Stream:
        server = format_server(host, port)
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(host, port, ssl=context), timeout
            )
        except asyncio.TimeoutError:
            raise ServerUnavailable(server, "timed out") from None
        except OSError as error:
            raise ServerUnavailable(server, cause(error)) from error
        except UnicodeError:
            raise ServerUnavailable(server, "this is no host's name") from None
        try:
            set_tcp_options(writer.get_extra_info("socket"))
        except OSError as error:
            writer.transport.abort()
            raise ServerUnavailable(server, "the connection was reset at once") from error
        return cls(server, reader, writer)

    def send(self, data: bytes) -> None:
        """Send data, or keep it until the peer takes more: see drain()."""
        if self._writer.transport.is_closing():
            raise ServerUnavailable(self.server, "the connection is closed")
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was sent."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise ServerUnavailable(self.server, cause(error)) from error

    async def receive(self) -> tuple[Packet, list[bytes]]:
        """Return the next packet. Cancelling loses nothing."""
        try:
            while True:
                packet = self._decoder.next_packet()
                if packet is not None:
                    return packet
                data = await self._reader.read(_READ)
                if not data:
                    raise ServerUnavailable(self.server, "the connection was closed by the peer")
                self.received += len(data)
                self._decoder.feed(data)
        except OSError as error:
            raise ServerUnavailable(self.server, cause(error)) from error
        except ProtocolError as error:
            raise ProtocolError(f"{self.server}: {error}") from None

    async def finish(self) -> None:
        """End our side and wait a moment for the peer to end its own, as Connection.finish does."""
        try:
            if self._writer.can_write_eof():  # which TLS cannot
                self._writer.write_eof()
                await asyncio.wait_for(self._reader.read(), 1)
        except (OSError, asyncio.TimeoutError):
            pass  # it was gone before
        await self.close()

    async def close(self) -> None:
        """Send what is left, for a moment, and close."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), 1)
        except (OSError, asyncio.TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()


# The client

_Waiting = tuple[Submission, "asyncio.Future[Result]"]


class _Link:
    """The client's connection: sends submissions, and gives each packet to whom it concerns.

    A job server answers submissions in their order. Packets about a job come once for each of
    its submissions on this connection (several with one unique id are one job): so they are
    dealt out in turn.
    """

    def __init__(self, stream: _Stream) -> None:
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
        self._link: _Link | None = None
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
        stream = await _Stream.open(host, port, self._ssl_context, timeout)
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

    async def _ready(self, deadline: float | None) -> _Link:
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
                    self._link = _Link(stream)
                    return self._link
            raise ServerUnavailable.of_all(failures)
        finally:
            self._connecting.release()

    async def _connect(self, host: str, port: int, timeout: float) -> _Stream:
        if timeout <= 0:
            raise ServerUnavailable(format_server(host, port), "no time was left to try it")
        started = time.monotonic()
        stream = await _Stream.open(host, port, self._ssl_context, timeout)
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


# The worker


class Worker:
    """Serves async functions, `concurrency` jobs at a time: register() them, then await run().

    client_id: shown by the admin command `workers`; "gearvisor-HOST-PID" by default.
    job_timeout: seconds after which a job is cancelled; the client gets JobTimeLimit as an
    exception. Only a function that awaits can be cancelled.
    counters: the jobs done and failed since the Worker was made.
    """

    def __init__(
        self,
        servers: Sequence[str],
        client_id: str | None = None,
        *,
        concurrency: int = 1,
        ssl_context: ssl.SSLContext | None = None,
        job_timeout: float | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency {concurrency!r} is not at least 1")
        if job_timeout is not None and not job_timeout > 0:
            raise ValueError(f"job_timeout {job_timeout!r} is not above 0")
        client_id = client_id or default_client_id()
        self.client_id = client_id
        self.counters = Counters(client_id)
        self._servers = parse_servers(servers)
        self._hello = [encode(Packet.SET_CLIENT_ID, check_client_id(client_id))]
        self._functions: dict[bytes, Function] = {}
        self._concurrency = concurrency
        self._ssl_context = ssl_context
        self._job_timeout = job_timeout
        self._stopping = False
        self._stop: asyncio.Event | None = None  # made in the loop, for Python 3.9
        self._idle: set[asyncio.Task[Any]] = set()

    def register(self, name: str, function: Function) -> None:
        """Serve an async `function` under `name`; to be called before run().

        It gets a gearvisor.jobs.Job and returns or raises what a function of
        gearvisor.worker.Worker does.
        """
        encoded = check_function(name)
        if encoded in self._functions:
            raise ValueError(f"function {name!r} is registered already")
        if not is_async(function) and not is_async(getattr(function, "__call__", None)):  # noqa: B004
            raise ValueError(f"function {name!r} is not async; serve it with gearvisor.worker")
        self._functions[encoded] = function
        self.counters.functions[encoded] = Tally()
        self._hello.append(encode(Packet.CAN_DO, encoded))

    def stop(self) -> None:
        """Make run() return after the running jobs. To be called in the loop's thread."""
        self._stopping = True
        if self._stop is not None:
            self._stop.set()

    async def run(self, handle_signals: bool = False) -> None:
        """Serve until stop(), once. Lost job servers are tried again for ever.

        handle_signals: SIGTERM and SIGINT call stop(); a second one ends the process at once.
        """
        if not self._functions:
            raise ValueError("no function is registered; call register() first")
        if handle_signals:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)
        self._stop = asyncio.Event()
        if self._stopping:
            return
        tasks = []
        for _ in range(self._concurrency):
            turn = asyncio.Lock()
            tasks += [asyncio.ensure_future(self._serve(*each, turn)) for each in self._servers]
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping = True
            stop.cancel()
            for task in self._idle:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            total = self.counters.total
            log.info("stopped: %d jobs done, %d failed", total.done, total.failed)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _on_signal(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        self.stop()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Where stop() may cancel: no job is assigned, and none has been asked for."""
        task = asyncio.current_task()
        assert task is not None
        if self._stopping:
            raise asyncio.CancelledError
        self._idle.add(task)
        try:
            yield
        finally:
            self._idle.discard(task)

    async def _serve(self, host: str, port: int, turn: asyncio.Lock) -> None:
        """Serve one job server in one lane; `turn` is held by who of the lane may have a job."""
        pause = RETRY_FIRST
        away = False
        while not self._stopping:
            stream = None
            try:
                with self._interruptible():
                    stream = await _Stream.open(host, port, self._ssl_context, CONNECT_TIMEOUT)
                stream.send(b"".join(self._hello))
                await self._greet(stream)
                while not self._stopping:
                    with self._interruptible():
                        await turn.acquire()
                    try:
                        served = await self._serve_one(stream)
                    finally:
                        turn.release()
                    if away or pause != RETRY_FIRST:
                        log.info("serving %s as %s again", stream.server, self.client_id)
                    away, pause = False, RETRY_FIRST
                    if not served:
                        await self._sleep(stream)
            except (ServerUnavailable, ProtocolError) as error:
                if not away:
                    log.warning("job server is away, trying again: %s", error)
                away = True
                with self._interruptible():
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, RETRY_MOST)
            finally:
                if stream is not None:
                    await stream.finish()

    async def _serve_one(self, stream: _Stream) -> bool:
        """Ask for a job and do it; return whether there was one."""
        stream.send(encode(Packet.GRAB_JOB_UNIQ))
        patience = ANSWER_TIMEOUT if len(self._servers) == 1 else ANSWER_TIMEOUT_BUSY
        while True:
            kind, arguments = await _answer(stream, patience)
            if kind == Packet.NO_JOB:
                return False
            if kind == Packet.JOB_ASSIGN_UNIQ:
                stream.send(await self._perform(stream, *arguments))
                await stream.drain()
                return True
            unasked(stream.server, kind, arguments)

    async def _sleep(self, stream: _Stream) -> None:
        """Wait for a NOOP, for a second at most."""
        stream.send(encode(Packet.PRE_SLEEP))
        with self._interruptible():
            try:
                packet = await asyncio.wait_for(stream.receive(), POLL)
            except asyncio.TimeoutError:
                return await self._greet(stream)
        unasked(stream.server, *packet)

    async def _greet(self, stream: _Stream) -> None:
        """Wait for a sign of life before the lane is held up by a question."""
        stream.send(encode(Packet.ECHO_REQ, b"gearvisor"))
        with self._interruptible():
            packet = await _answer(stream, ANSWER_TIMEOUT)
        unasked(stream.server, *packet)

    async def _perform(
        self, stream: _Stream, handle: bytes, name: bytes, unique: bytes, data: bytes
    ) -> bytes:
        """Do a job and return its one final packet."""
        job = Job(stream.send, handle, name, unique, data)
        function = self._functions.get(name)
        if function is None:
            log.error("job %s is for %s, which this worker has not", job.handle, job.function)
            return encode(Packet.WORK_FAIL, handle)
        started = time.monotonic()
        failure: Exception | None = None
        final = b""
        task = asyncio.ensure_future(_call(function, job))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._job_timeout)
            if not done:
                task.cancel()
                await asyncio.wait({task})
                raise JobTimeLimit(f"over the limit of {self._job_timeout:g} s")
            if task.cancelled():  # by itself: not a word to this worker's own task
                raise JobFailed("the function was cancelled")
            final = completed(job, handle, task.result())
        except Exception as error:
            failure = error
        job.over()
        seconds = time.monotonic() - started
        self.counters.add(name, seconds, failure is not None)
        if failure is not None:
            return failed(job, handle, failure, seconds)
        log.debug("job %s of %s done", job.handle, job.function,
                  extra=log_fields(job, seconds, "done"))  # fmt: skip
        return final


async def _next(stream: _Stream, wanted: Packet) -> list[bytes]:
    """Return the arguments of the next packet of that kind."""
    while True:
        kind, arguments = await stream.receive()
        if kind == wanted:
            return arguments


async def _answer(stream: _Stream, seconds: float) -> tuple[Packet, list[bytes]]:
    """Return the next packet; nothing at all may come for so many seconds."""
    while True:
        before = stream.received
        try:
            return await asyncio.wait_for(stream.receive(), seconds)
        except asyncio.TimeoutError:
            if stream.received == before:
                raise no_answer(stream.server, seconds) from None


async def _call(function: Function, job: Job) -> bytes | str | None:
    try:
        return await function(job)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, say: it would end the loop, and so the worker
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


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
