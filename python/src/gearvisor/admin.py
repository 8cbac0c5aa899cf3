# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin commands of a job server: lines of text on the port the packets use too.

The commands and their replies are in gearmand's PROTOCOL document, but for `cancel job`,
`create function` and `drop function`, which only its source (libgearman-server/text.cc) has.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from .connection import Connection, parse_server
from .errors import AdminError, ProtocolError, ServerUnavailable
from .protocol import check_function

if TYPE_CHECKING:
    import ssl

MAX_REPLY = 16 * 1024 * 1024  # bytes; some 200,000 functions or connections


class FunctionStatus(NamedTuple):
    """Jobs and workers of one function.

    queued: jobs that wait, running: jobs a worker has now. (gearmand's own TOTAL column is their
    sum.) Foreground jobs whose client has left stay in `queued` until a worker comes upon them.
    workers: connections that can do the function, busy or not.
    """

    queued: int
    running: int
    workers: int


class WorkerConnection(NamedTuple):
    """One connection to the job server; clients are listed too, with no functions.

    fd: the job server's file descriptor for it. client_id: "-" if the peer never set one.
    """

    fd: int
    address: str
    client_id: str
    functions: tuple[str, ...]


class Admin:
    """An admin connection to one job server ("host:port"), made at once; a context manager.

    timeout: seconds for connecting and for each command. Raises ServerUnavailable, AdminError
    when the job server refuses a command and ProtocolError when its reply makes no sense.
    """

    def __init__(
        self, server: str, timeout: float = 5.0, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        host, port = parse_server(server)
        self._timeout = timeout
        self._connection = Connection(host, port, timeout, ssl_context)
        self.server = self._connection.server

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def version(self) -> str:
        """The job server's version, for example 1.1.21+ds."""
        return self._line("version")

    def status(self) -> dict[str, FunctionStatus]:
        """Each function the job server ever heard of, since it started, by name."""
        functions = {}
        for line in self._lines("status"):
            try:
                # From the right: a name may hold a tab.
                name, total, running, workers = line.rsplit("\t", 3)
                functions[name] = FunctionStatus(
                    int(total) - int(running), int(running), int(workers)
                )
            except ValueError:
                raise ProtocolError(f"{self.server}: `status` replied {line!r}") from None
        return functions

    def workers(self) -> list[WorkerConnection]:
        """All connections of the job server, this one included."""
        connections = []
        for line in self._lines("workers"):
            try:
                fd, address, rest = line.split(" ", 2)
                client_id, colon, functions = rest.rpartition(" :")
                if not colon:
                    raise ValueError
                connections.append(
                    WorkerConnection(int(fd), address, client_id, tuple(functions.split()))
                )
            except ValueError:
                raise ProtocolError(f"{self.server}: `workers` replied {line!r}") from None
        return connections

    def max_queue(self, function: str, *sizes: int) -> None:
        """Limit the jobs (waiting and running) of a function; further ones get QUEUE_ERROR.

        sizes: one for every priority, or three: high, normal, low; 0 is no limit. gearmand
        ignores it for a function it does not know (create it first) and forgets it when it stops.
        """
        if len(sizes) not in (1, 3):
            raise ValueError(f"max_queue takes one size or three, not {len(sizes)}")
        self._line(f"maxqueue {_word(function)} {' '.join(str(int(size)) for size in sizes)}")

    def cancel(self, handle: str) -> None:
        """Cancel a job that waits. A running one goes on."""
        self._line(f"cancel job {_word(handle)}")

    def create(self, function: str) -> None:
        """Make a function known, so that it is listed and max_queue works on it."""
        self._line(f"create function {_word(function)}")

    def drop(self, function: str) -> None:
        """Forget a function and its jobs; refused while a worker is registered for it."""
        self._line(f"drop function {_word(function)}")

    def _line(self, command: str) -> str:
        """Send a command that is answered by one line, and return what follows its OK."""
        reply = self._ask(command, b"\n").strip()
        if reply != "OK" and not reply.startswith("OK "):
            raise AdminError(f"{self.server}: `{command}` replied {reply!r}")
        return reply[3:]

    def _lines(self, command: str) -> list[str]:
        """Send a command that is answered by lines, and return those before the single dot."""
        return self._ask(command, b"\n.\n").split("\n")[1:-2]

    def _ask(self, command: str, end: bytes) -> str:
        """Send a command; return a line feed, then its reply up to and with `end`."""
        # gearmand 1.1.20 takes "create function foobar\n" for "fooba": it wants CRLF.
        self._connection.send(command.encode() + b"\r\n")
        deadline = time.monotonic() + self._timeout
        reply = bytearray(b"\n")  # so that a dot that comes first is on a line of its own too
        while len(reply) == 1 or not reply.endswith(end):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self.close()
                raise ServerUnavailable(
                    self.server, f"no reply to `{command}` in {self._timeout:g} s"
                )
            if len(reply) > MAX_REPLY:
                self.close()
                raise ProtocolError(f"{self.server}: `{command}` replied over {MAX_REPLY} bytes")
            reply += self._connection.read(remaining) or b""
        return reply.decode(errors="replace")


def _word(text: str) -> str:
    """A name as one word of a command: raises ValueError when it is none."""
    check_function(text)
    if len(text.split()) != 1 or text.strip() != text:
        raise ValueError(f"{text!r} holds a blank, which admin commands cannot name")
    return text
