# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submit jobs and wait for their answers."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, NamedTuple

from .connection import Connection, format_server, parse_server
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
        if not servers or isinstance(servers, str):
            raise ValueError(f'servers {servers!r} is not a list of at least one "host:port"')
        self._servers = [parse_server(server) for server in servers]
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
        timeout: float | None = None,
        on_data: Callable[[bytes], object] | None = None,
        on_warning: Callable[[bytes], object] | None = None,
        on_status: Callable[[int, int], object] | None = None,
    ) -> Result:
        """Submit a job; wait for its result, or with `background` only until it is queued.

        priority: "high", "normal" or "low", among the jobs of this function.
        unique: jobs of one function with the same unique id are run once; without one a random
        id is made, since persistent queues lose or refuse jobs with an empty one.
        timeout: seconds for all of it, connecting included; None waits for as long as the job
        server lives.
        on_data, on_warning: called with each WORK_DATA and WORK_WARNING. Without on_data such
        data is put before the result, so nothing of it is lost. on_status: called with
        numerator and denominator of each WORK_STATUS.

        Raises ServerUnavailable: no job server answers, or it was lost (if before the handle
        came, the job may still have been queued). SubmitError: the job server refused it.
        JobFailed, JobException: the worker says so. JobTimeout. ValueError: bad arguments.
        """
        name = check_function(function)
        if unique is None:
            unique = os.urandom(16).hex()
        unique_id = check_unique(unique)
        if priority not in PRIORITIES:
            raise ValueError(f"priority {priority!r} is not one of {', '.join(PRIORITIES)}")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ValueError(f"data is {type(data).__name__}, not bytes; encode it first")
        started = time.monotonic()
        if timeout is None:
            timeout = self._timeout
        deadline = None if timeout is None else started + timeout

        connection = self._ready(deadline)
        try:
            connection.send(encode(_SUBMIT[priority, background], name, unique_id, data))
            handle = _created(connection, deadline)
            result = b""
            if not background:
                result = _result(connection, handle, deadline, on_data, on_warning, on_status)
        except (JobFailed, JobException, SubmitError):
            raise
        except BaseException:  # then answers of this job may still come: not on this connection
            self.close()
            raise
        return Result(
            handle.decode(errors="replace"),
            unique,
            result,
            time.monotonic() - started,
            connection.server,
        )

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
        raise ServerUnavailable(failures[0].server, failures[0].reason, failures[1:])

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


def _created(connection: Connection, deadline: float | None) -> bytes:
    """Wait until the job is queued and return its handle."""
    limit = time.monotonic() + ANSWER_TIMEOUT
    while True:
        try:
            kind, arguments = _receive(connection, min(limit, deadline or limit))
        except JobTimeout:
            if deadline is not None and deadline <= limit:
                raise
            raise ServerUnavailable(
                connection.server, f"did not queue the job in {ANSWER_TIMEOUT:g} s"
            ) from None
        if kind == Packet.JOB_CREATED:
            handle = arguments[0]
            if not handle or len(handle) > MAX_HANDLE:
                raise ProtocolError(f"{connection.server}: job handle of {len(handle)} bytes")
            return handle
        if kind == Packet.ERROR:
            raise SubmitError(*(argument.decode(errors="replace") for argument in arguments))


def _result(
    connection: Connection,
    handle: bytes,
    deadline: float | None,
    on_data: Callable[[bytes], object] | None,
    on_warning: Callable[[bytes], object] | None,
    on_status: Callable[[int, int], object] | None,
) -> bytes:
    """Wait for the final packet of a job and return its result."""
    chunks: list[bytes] = []
    while True:
        kind, arguments = _receive(connection, deadline)
        # gearmand ends the handle of a WORK_FAIL with NUL when it stands for a WORK_EXCEPTION.
        if not arguments or arguments[0].rstrip(b"\0") != handle:
            continue
        if kind == Packet.WORK_COMPLETE:
            return b"".join([*chunks, arguments[1]])
        if kind == Packet.WORK_FAIL:
            raise JobFailed(f"job {handle.decode(errors='replace')} failed")
        if kind == Packet.WORK_EXCEPTION:
            raise JobException(arguments[1].decode(errors="replace"))
        if kind == Packet.WORK_DATA:
            if on_data is None:
                chunks.append(arguments[1])
            else:
                on_data(arguments[1])
        elif kind == Packet.WORK_WARNING and on_warning is not None:
            on_warning(arguments[1])
        elif kind == Packet.WORK_STATUS and on_status is not None:
            try:
                numerator, denominator = int(arguments[1]), int(arguments[2])
            except ValueError:
                continue  # other workers may send what they like here
            on_status(numerator, denominator)
