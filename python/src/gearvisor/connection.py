# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection to a job server, with bounded waits and plain errors."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import ProtocolError, ServerUnavailable
from .protocol import DEFAULT_PORT, MAX_PACKET, Decoder, Packet

if TYPE_CHECKING:  # ssl is slow to import, and only the caller who makes a context needs it
    import ssl

_READ, _READ_MOST = 2**16, 2**18  # bytes a read; the second within a long packet
_TLS_WRITE = 2**16  # bytes a write of TLS, whose timeout is for all of it
STALL = 30.0  # seconds a peer may take nothing of what it is sent, before it counts as gone

# struct timeval, where it is two C longs: on all 64-bit Linux systems.
_TIMEVAL = struct.Struct("@ll")
_HAS_TIMEVAL = _TIMEVAL.size == 16

# A peer that vanished without a word is noticed after about 90 s: keepalive probes find it when
# the connection is idle, TCP_USER_TIMEOUT (ms) when sent bytes stay unacknowledged. Linux names.
_TCP_OPTIONS = {
    "TCP_NODELAY": 1,
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 90_000,
}


def parse_server(server: str) -> tuple[str, int]:
    """Return host and port of "host", "host:port", "[::1]" or "[::1]:4730" (port 4730 if none).

    Raises ValueError naming the value.
    """
    if server.startswith("["):
        host, bracket, rest = server[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        fine = bool(bracket) and colon in ("", ":")
    else:
        host, colon, port = server.partition(":")
        fine = ":" not in port
        if not fine:
            raise ValueError(
                f"job server {server!r} is ambiguous; put an IPv6 address in brackets: [::1]:4730"
            )
        # As RFC 1035 has it; only what is between dots, and only a dot at the end, may be empty.
        labels = host[: -1 if host.endswith(".") else None].split(".")
        fine = all(0 < len(label) < 64 for label in labels)
    if not fine or not host or any(character.isspace() for character in host):
        raise ValueError(f"job server {server!r} is not HOST, HOST:PORT or [IPV6]:PORT")
    if not colon:
        return host, DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"job server {server!r} has no port from 1 to 65535 after its colon")
    return host, int(port)


def parse_servers(servers: Sequence[str]) -> list[tuple[str, int]]:
    """Return host and port of each, without duplicates; raises ValueError saying what is wrong."""
    if not servers or isinstance(servers, str):
        raise ValueError(f'servers {servers!r} is not a list of at least one "host:port"')
    return list(dict.fromkeys(map(parse_server, servers)))


def format_server(host: str, port: int) -> str:
    """Return "host:port", an IPv6 address in brackets: what parse_server takes."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def set_tcp_options(connection: socket.socket) -> None:
    """Send at once, and notice a peer that vanished; raises OSError."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Connection:
    """A connection to a job server, made at once; IPv4 or IPv6, whichever answers.

    timeout: seconds for connecting and for the TLS handshake.
    ssl_context: an ssl.SSLContext for a TLS tunnel in front of the job server; Debian's gearmand
    itself does not speak TLS.

    max_packet: bytes of the largest packet that receive() takes.

    stall: seconds for which the peer may take nothing of what send() has for it.

    Every method but close raises ServerUnavailable when the peer is gone. The connection is then
    closed: `closed` is true, and each further use raises it again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        ssl_context: ssl.SSLContext | None = None,
        *,
        max_packet: int = MAX_PACKET,
    ) -> None:
        self.server = format_server(host, port)
        self.closed = False
        self.stall = STALL
        self._decoder = Decoder(max_packet=max_packet)
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise ServerUnavailable(self.server, cause(error)) from error
        except UnicodeError:
            raise ServerUnavailable(self.server, "this is not a valid host name") from None
        try:
            set_tcp_options(self._socket)
            if ssl_context is not None:
                self._socket = ssl_context.wrap_socket(self._socket, server_hostname=host)
        except OSError as error:
            raise self._lost(cause(error)) from error
        self._arrivals = select.poll()
        self._arrivals.register(self._socket, select.POLLIN)
        self._socket_timeout: float | None = timeout
        # The kernel keeps the time by itself: Python's way is a poll() before each recv() and
        # send(). TLS needs that, since one read of it can be several of the socket.
        self._kernel_timeout = ssl_context is None and _HAS_TIMEVAL
        if self._kernel_timeout:
            self._socket.settimeout(None)
            self._socket_timeout = None

    @property
    def missing(self) -> int:
        """Bytes that are to come of a packet that has begun to: less each time means progress."""
        return self._decoder.missing

    def send(self, data: bytes, deadline: float | None = None) -> None:
        """Send all of data, until `deadline` (on the monotonic clock) if there is one."""
        try:
            sent = self._send_at_once(data) if self._kernel_timeout else 0
            if sent < len(data):
                self._send_slowly(memoryview(data)[sent:], deadline)
        except OSError as error:
            raise self._lost(cause(error)) from error
        except BaseException:  # a signal handler's: nothing must come after half a packet
            self.close()
            raise

    def _send_at_once(self, data: bytes) -> int:
        """Send what the kernel takes without waiting, mostly all of it; return how much."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def _send_slowly(self, left: memoryview, deadline: float | None) -> None:
        while left:
            wait = self.stall if deadline is None else min(self.stall, deadline - time.monotonic())
            if wait <= 0:
                raise socket.timeout
            if self._kernel_timeout:
                self._set_option(socket.SO_SNDTIMEO, wait)
                left = left[self._socket.send(left) :]
            else:
                self._set_timeout(wait)
                left = left[self._socket.send(left[:_TLS_WRITE]) :]

    def receive(
        self, timeout: float | None, at_once: bool = False
    ) -> tuple[Packet, list[bytes]] | None:
        """Return the next packet, or None when none was complete after `timeout` seconds.

        None waits for as long as the peer lives. at_once changes nothing any more (see
        docs/decisions/0012). Raises ProtocolError (and closes) on bytes that are not the protocol.
        """
        try:
            packet = self._decoder.next_packet()
            if packet is not None:
                return packet
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                data = self.read(timeout, self._decoder.missing)
                if data is not None:
                    self._decoder.feed(data)
                    packet = self._decoder.next_packet()
                    if packet is not None:
                        return packet
                if deadline is not None:
                    timeout = deadline - time.monotonic()
                    if timeout <= 0:
                        return None
        except ProtocolError as error:
            self.close()
            raise ProtocolError(f"{self.server}: {error}") from None

    def read(self, timeout: float | None, missing: int = 0) -> bytes | None:
        """Return some bytes past the packets, or None when none came for `timeout` seconds.

        missing: how many are known to be on their way.
        """
        flags = 0
        if self._kernel_timeout and timeout == 0:
            flags = socket.MSG_DONTWAIT
        else:
            # To Python 0 is a non-blocking socket, which TLS reports in its own way.
            self._set_timeout(timeout if timeout is None else max(timeout, 0.001))
        size = _READ if missing < _READ else min(missing, _READ_MOST)
        try:
            data = self._socket.recv(size, flags)
        except (socket.timeout, BlockingIOError):  # the first is TimeoutError since Python 3.10
            return None
        except OSError as error:
            raise self._lost(cause(error)) from error
        if not data:
            raise self._lost("the connection was closed by the peer")
        return data

    def readable(self) -> bool:
        """Whether a read would find something at once, the end of the connection included."""
        if self.closed:
            raise self._lost("the connection is closed")
        return bool(self._arrivals.poll(0))

    def fileno(self) -> int:
        """The file descriptor, for select.poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close at once. What the peer has not read by now may be lost."""
        self.closed = True
        self._socket.close()

    def finish(self, timeout: float) -> None:
        """Close, but let the peer read all that was sent first, for `timeout` seconds at most.

        A socket closed with unread bytes in it (such as a NOOP) resets the connection, and a reset
        can overtake a result on its way: so end our side, then read until the peer ends its own.
        """
        deadline = time.monotonic() + timeout
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                self.read(deadline - time.monotonic())
        except (OSError, ServerUnavailable):
            pass  # the peer is done with it, or was gone before
        self.close()

    def _set_timeout(self, timeout: float | None) -> None:
        if timeout == self._socket_timeout:  # each change is a system call
            return
        if self._kernel_timeout:
            self._set_option(socket.SO_RCVTIMEO, timeout or 0.0)  # to the kernel 0 means no limit
        else:
            try:
                self._socket.settimeout(timeout)
            except OSError as error:
                raise self._lost(cause(error)) from error
        self._socket_timeout = timeout

    def _set_option(self, option: int, seconds: float) -> None:
        timeval = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, option, timeval)
        except OSError as error:
            raise self._lost(cause(error)) from error

    def _lost(self, reason: str) -> ServerUnavailable:
        if self.closed:
            reason = "the connection is closed"
        self.close()
        return ServerUnavailable(self.server, reason)


def cause(error: OSError) -> str:
    """The cause in words, without the [Errno N], which does not help an operator."""
    if isinstance(error, (socket.timeout, BlockingIOError)):  # the second is the kernel's timeout
        return "timed out"
    return error.strerror or str(error) or type(error).__name__
