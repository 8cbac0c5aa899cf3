# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submit jobs and wait for their answers."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, NamedTuple

from . import unique_ids
from .connection import Connection, format_server, parse_server, parse_servers
from .errors import (
    JobException,
    JobFailed,
    JobTimeout,
    ProtocolError,
    ServerUnavailable,
    SubmitError,
)
from .protocol import MAX_HANDLE, Packet, check_function, check_unique, encode

if TYPE_CHECKING:
    import ssl

ANSWER_TIMEOUT = 30.0  # seconds in which a job server must have queued a job, or it is broken

_SUBMIT = {  # (priority, background)
    ("high", False): Packet.SUBMIT_JOB_HIGH,
    ("normal", False): Packet.SUBMIT_JOB,
    ("low", False): Packet.SUBMIT_JOB_LOW,
    ("high", True): Packet.SUBMIT_JOB_HIGH_BG,
    ("normal", True): Packet.SUBMIT_JOB_BG,
    ("low", True): Packet.SUBMIT_JOB_LOW_BG,
}
PRIORITIES = ("high", "normal", "low")


class Result(NamedTuple):
    """What became of a job.

    handle: the job server's name for it. unique: its unique id, the caller's or a made one.
    data: the worker's result, empty for a background job. seconds: from submit() to here.
    server: the "host:port" that took it.
    """

    handle: str
    unique: str
    data: bytes
    seconds: float
    server: str


class JobStatus(NamedTuple):
    """What a job server reports about a job.

    known: it has the job; false once the job is over (or was never there).
    running: a worker has it. numerator, denominator: as the worker last reported, else 0 and 0.
    """

    known: bool
    running: bool
    numerator: int
    denominator: int


class Submission:
    """One job from its submission to its end, without I/O: packets in, a Result out.

    The arguments are those of Client.submit, which also lists what is raised. `packet` is to be
    sent once; then each packet of the job server that may be about this job goes to take().
    """

    def __init__(
        self,
        function: str,
        data: bytes = b"",
        *,
        background: bool = False,
        priority: str = "normal",
        unique: str | None = None,
        at: float | None = None,
        on_data: Callable[[bytes], object] | None = None,
        on_warning: Callable[[bytes], object] | None = None,
        on_status: Callable[[int, int], object] | None = None,
    ) -> None:
        name = check_function(function)
        if unique is None:
            unique = unique_ids.make(at)
        unique_id = check_unique(unique)
        if priority not in PRIORITIES:
            raise ValueError(f"priority {priority!r} is not one of {', '.join(PRIORITIES)}")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ValueError(f"data is {type(data).__name__}, not bytes; encode it first")
        if at is None:
            self.packet = encode(_SUBMIT[priority, background], name, unique_id, data)
        elif not background or priority != "normal":
            raise ValueError("a job with a time (at) is a background job of normal priority")
        else:
            self.packet = encode(
                Packet.SUBMIT_JOB_EPOCH, name, unique_id, b"%d" % math.ceil(at), data
            )
        self.background = background
        self.unique = unique
        self.handle = b""  # until the job is queued
        self._started = time.monotonic()
        self._chunks: list[bytes] = []
        self._on_data = on_data
        self._on_warning = on_warning
        self._on_status = on_status

    def take(self, server: str, kind: Packet, arguments: list[bytes]) -> Result | None:
        """Look at a packet from `server`; return the Result if it ends the submission."""
        if not self.handle:
            if kind == Packet.ERROR:
                raise SubmitError(*(argument.decode(errors="replace") for argument in arguments))
            if kind != Packet.JOB_CREATED:
                return None
            handle = arguments[0]
            if not handle or len(handle) > MAX_HANDLE:
                raise ProtocolError(f"{server}: job handle of {len(handle)} bytes")
            self.handle = handle
            return self._result(server, b"") if self.background else None
        # gearmand ends the handle of a WORK_FAIL with NUL when it stands for a WORK_EXCEPTION.
        if not arguments or arguments[0].rstrip(b"\0") != self.handle:
            return None
        if kind == Packet.WORK_COMPLETE:
            return self._result(server, b"".join([*self._chunks, arguments[1]]))
        if kind == Packet.WORK_FAIL:
            raise JobFailed(f"job {self.handle.decode(errors='replace')} failed")
        if kind == Packet.WORK_EXCEPTION:
            raise JobException(arguments[1].decode(errors="replace"))
        if kind == Packet.WORK_DATA:
            if self._on_data is None:
                self._chunks.append(arguments[1])
            else:
                self._on_data(arguments[1])
        elif kind == Packet.WORK_WARNING and self._on_warning is not None:
            self._on_warning(arguments[1])
        elif kind == Packet.WORK_STATUS and self._on_status is not None:
            try:
                numerator, denominator = int(arguments[1]), int(arguments[2])
            except ValueError:
                return None  # other workers may send what they like here
            self._on_status(numerator, denominator)
        return None

    def _result(self, server: str, data: bytes) -> Result:
        return Result(
            self.handle.decode(errors="replace"),
            self.unique,
            data,
            time.monotonic() - self._started,
            server,
        )


def parse_status(server: str, arguments: list[bytes]) -> JobStatus:
    """Return the content of a STATUS_RES; raises ProtocolError."""
    try:
        known, running, numerator, denominator = (int(each or b"0") for each in arguments[1:5])
    except ValueError:
        raise ProtocolError(f"{server}: status {arguments!r} of a job") from None
    return JobStatus(known != 0, running != 0, numerator, denominator)


class Client:
    """Submits jobs to one of several job servers ("host:port" each); a context manager.

    timeout: the default for submit(). connect_timeout: seconds a server may take to connect and
    greet before the next is tried. The connection is kept from one submit() to the next; a Client
    is for one thread at a time.
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
        self._connection: Connection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one; the next submit() makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def submit(
        self,
        function: str,
        data: bytes = b"",
        *,
        background: bool = False,
        priority: str = "normal",
        unique: str | None = None,
        at: float | None = None,
        timeout: float | None = None,
        on_data: Callable[[bytes], object] | None = None,
        on_warning: Callable[[bytes], object] | None = None,
        on_status: Callable[[int, int], object] | None = None,
    ) -> Result:
        """Submit a job; wait for its result, or with `background` only until it is queued.

        priority: "high", "normal" or "low", among the jobs of this function.
        unique: jobs of one function with the same unique id are run once; 63 bytes at most.
        Without one a UUID of version 7 is made: persistent queues lose or refuse jobs with an
        empty one, and the time in it shows how long the job waits.
        at: when a background job may start, in seconds since the epoch (a whole second). A job
        server with a redis or memcached queue refuses it.
        timeout: seconds for all of it, connecting included; None waits for as long as the job
        server lives.
        on_data, on_warning: called with each WORK_DATA and WORK_WARNING. Without on_data such
        data is put before the result, so nothing of it is lost. on_status: called with
        numerator and denominator of each WORK_STATUS.

        Raises ServerUnavailable: no job server answers, or it was lost (if before the handle
        came, the job may still have been queued). SubmitError: the job server refused it.
        JobFailed, JobException: the worker reports it. JobTimeout. ValueError: bad arguments.
        """
        submission = Submission(
            function,
            data,
            background=background,
            priority=priority,
            unique=unique,
            at=at,
            on_data=on_data,
            on_warning=on_warning,
            on_status=on_status,
        )
        if timeout is None:
            timeout = self._timeout
        deadline = None if timeout is None else time.monotonic() + timeout

        connection = self._ready(deadline)
        try:
            try:
                connection.send(submission.packet, deadline)
            except ServerUnavailable:
                if deadline is None or time.monotonic() < deadline:
                    raise
                raise JobTimeout(f"{connection.server} did not take all of it in time") from None
            result = _queue(connection, submission, deadline)
            while result is None:
                result = submission.take(connection.server, *_receive(connection, deadline))
            return result
        except (JobFailed, JobException, SubmitError):
            raise
        except BaseException:  # then answers of this job may still come: not on this connection
            self.close()
            raise

    def status(self, result: Result, timeout: float = 5.0) -> JobStatus:
        """Ask how a job is doing, mostly a background one, of the job server that took it.

        timeout: seconds for all of it. Raises ServerUnavailable, also when the time is over.
        """
        deadline = time.monotonic() + timeout
        connection = self._connect(*parse_server(result.server), timeout)
        try:
            connection.send(encode(Packet.GET_STATUS, result.handle.encode()))
            while True:
                kind, arguments = _receive(connection, deadline)
                if kind == Packet.STATUS_RES:
                    return parse_status(connection.server, arguments)
        except JobTimeout:
            raise ServerUnavailable(connection.server, f"no answer in {timeout:g} s") from None
        finally:
            connection.close()

    def _ready(self, deadline: float | None) -> Connection:
        """Return a connection that was alive just now; tries the servers in random order."""
        if self._connection is not None:
            try:
                # Nothing is due from the server: what can be read is its end, or a stray ERROR.
                if self._connection.readable():
                    self._connection.receive(0)
                return self._connection
            except (ServerUnavailable, ProtocolError):
                self.close()
        failures = []
        for host, port in random.sample(self._servers, len(self._servers)):
            timeout = self._connect_timeout
            if deadline is not None:
                timeout = min(timeout, deadline - time.monotonic())
            try:
                self._connection = self._connect(host, port, timeout)
                return self._connection
            except ServerUnavailable as error:
                failures.append(error)
        raise ServerUnavailable.of_all(failures)

    def _connect(self, host: str, port: int, timeout: float) -> Connection:
        if timeout <= 0:
            raise ServerUnavailable(format_server(host, port), "no time was left to try it")
        deadline = time.monotonic() + timeout
        connection = Connection(host, port, timeout, self._ssl_context)
        try:
            # Without this option the text of an exception does not reach us. Waiting for its
            # answer also proves that a job server is there, while there is nothing to lose yet.
            connection.send(encode(Packet.OPTION_REQ, b"exceptions"))
            packet = connection.receive(max(0.0, deadline - time.monotonic()))
        except ProtocolError as error:
            raise ServerUnavailable(connection.server, str(error)) from error
        if packet is None:
            connection.close()
            raise ServerUnavailable(connection.server, f"no answer in {timeout:.3g} s")
        return connection


def _receive(connection: Connection, deadline: float | None) -> tuple[Packet, list[bytes]]:
    remaining = None if deadline is None else deadline - time.monotonic()
    if remaining is None or remaining > 0:  # not so: a peer that never pauses must not hold us
        packet = connection.receive(remaining)
        if packet is not None:
            return packet
    raise JobTimeout(f"no answer from {connection.server} in time")


def _queue(connection: Connection, submission: Submission, deadline: float | None) -> Result | None:
    """Wait until the job is queued; return the Result if that is all there is to wait for."""
    limit = time.monotonic() + ANSWER_TIMEOUT
    result = None
    while not submission.handle:
        try:
            packet = _receive(connection, min(limit, deadline or limit))
        except JobTimeout:
            if deadline is not None and deadline <= limit:
                raise
            raise ServerUnavailable(
                connection.server, f"did not queue the job in {ANSWER_TIMEOUT:g} s"
            ) from None
        result = submission.take(connection.server, *packet)
    return result
