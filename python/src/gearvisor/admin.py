# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin commands of a job server: lines of text on the port the packets use too.

The commands and their replies are in gearmand's PROTOCOL document, but for `cancel job`,
`create function` and `drop function`, which only its source (libgearman-server/text.cc) has.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Callable, TypeVar

from .admin_replies import (
    FunctionStatus,
    WorkerConnection,
    parse_priorities,
    parse_status,
    parse_workers,
    text_of,
)
from .connection import Connection, parse_server
from .errors import AdminError, ProtocolError, ServerUnavailable
from .escape import escaped
from .protocol import MAX_FUNCTION

if TYPE_CHECKING:
    import ssl

MAX_REPLY = 16 * 1024 * 1024  # bytes; some 200,000 functions or connections
GRACE = 1.0  # seconds of silence after a single dot, before it is taken for the end of a reply

_LAST = re.compile(rb"\n\.\n(?:ERR [^\n]*\n)?\Z")  # the end of a list, and what follows it
_Parsed = TypeVar("_Parsed")
_BLANKS = " \t\n\v\f\r"  # isspace() of the C locale, where gearmand ends a word


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
        return self._parsed("status", parse_status)

    def waiting_by_priority(self) -> dict[str, tuple[int, int, int]]:
        """Jobs that wait, by function: of high, normal and low priority.

        gearmand walks through all its jobs for it: not to be polled with long queues.
        """
        return self._parsed("prioritystatus", parse_priorities)

    def unique_ids(self) -> list[str]:
        """The unique ids of all jobs, waiting and running, of all functions together.

        100,000 jobs take gearmand's one thread 0.09 s: not to be polled with long queues.
        """
        return self._parsed("show unique jobs", lambda reply: text_of(reply).split("\n")[:-1])

    def workers(self) -> list[WorkerConnection]:
        """All connections of the job server, this one included."""
        # The list separates functions by blanks, which names may hold too: `status` has them whole.
        names = self._parsed("status", parse_status)
        return self._parsed("workers", lambda reply: parse_workers(reply, names))

    def max_queue(self, function: str, *sizes: int) -> None:
        """Limit the jobs (waiting and running) of a function; further ones get QUEUE_ERROR.

        sizes: one for every priority, or three: high, normal, low; 0 means unlimited. gearmand
        ignores it for a function it does not know (create it first) and forgets it when it stops.
        """
        if len(sizes) not in (1, 3):
            raise ValueError(f"max_queue takes one size or three, not {len(sizes)}")
        numbers = " ".join(str(int(size)) for size in sizes)
        self._line(f"maxqueue {_function(function)} {numbers}")

    def cancel(self, handle: str) -> None:
        """Cancel a job that waits. A running one goes on."""
        self._line(f"cancel job {_word('job handle', handle)}")

    def create(self, function: str) -> None:
        """Make a function known, so that it is listed and max_queue works on it."""
        self._line(f"create function {_function(function)}")

    def drop(self, function: str) -> None:
        """Forget a function and its jobs; refused while a worker is registered for it."""
        self._line(f"drop function {_function(function)}")

    def _parsed(self, command: str, parse: Callable[[bytes], _Parsed]) -> _Parsed:
        """Send a command that is answered by lines, and return what `parse` makes of them."""
        reply = self._ask_list(command)
        try:
            return parse(reply)
        except ValueError as error:
            raise ProtocolError(
                f"{self.server}: `{command}` replied '{escaped(str(error), 200)}'"
            ) from None

    def _line(self, command: str) -> str:
        """Send a command that is answered by one line, and return what follows its OK."""
        self._send(command)
        reply = bytearray()
        deadline = time.monotonic() + self._timeout
        while not reply.endswith(b"\n"):
            self._read(reply, command, deadline)
        text = text_of(reply).strip()
        if text != "OK" and not text.startswith("OK "):
            raise AdminError(f"{self.server}: `{escaped(command)}` replied '{escaped(text, 500)}'")
        return text[3:]

    def _ask_list(self, command: str) -> bytes:
        """Send a command that is answered by lines; return those before the single dot.

        A name may hold "\\n.\\n" itself. So an unknown command with a random name follows,
        which gearmand repeats in its answer: that marks the end, and no name can hold it.
        """
        mark = b"gearvisor-" + os.urandom(12).hex().encode()
        self._send(f"{command}\r\n{mark.decode()}")
        reply = bytearray(b"\n")  # so that a dot that comes first is on a separate line too
        deadline = time.monotonic() + self._timeout
        while not reply.endswith((mark + b"\r\n", mark + b"\n")):
            dot = _LAST.search(reply[-300:])
            wait = min(deadline, time.monotonic() + GRACE) if dot is not None else deadline
            try:
                self._read(reply, command, wait)
            except ServerUnavailable:
                if dot is None or self._connection.closed:
                    raise
                break  # a peer that does not repeat what it does not know
        last = _LAST.search(reply)
        if last is None:
            raise AdminError(
                f"{self.server}: `{command}` replied '{escaped(text_of(reply).strip(), 500)}'"
            )
        return bytes(reply[1 : last.start() + 1])

    def _send(self, command: str) -> None:
        # gearmand 1.1.20 takes "create function foobar\n" for "fooba": it wants CRLF.
        self._connection.send(command.encode(errors="surrogateescape") + b"\r\n")

    def _read(self, reply: bytearray, command: str, deadline: float) -> None:
        """Add some bytes to the reply; raises ServerUnavailable at the deadline."""
        if len(reply) > MAX_REPLY:
            self.close()
            raise ProtocolError(
                f"{self.server}: `{escaped(command)}` replied over {MAX_REPLY} bytes"
            )
        remaining = deadline - time.monotonic()
        data = self._connection.read(remaining) if remaining > 0 else None
        if data is None:
            raise ServerUnavailable(
                self.server, f"no reply to `{escaped(command)}` in {self._timeout:g} s"
            )
        reply += data


def _function(name: str) -> str:
    return _word("function name", name)


def _word(what: str, text: str) -> str:
    """A name as one word of a command; raises ValueError when it cannot be one."""
    if not text:
        raise ValueError(f"{what} is empty")
    if "\0" in text or any(blank in text for blank in _BLANKS):
        raise ValueError(
            f"{what} '{escaped(text, 200)}' holds a blank, a line break or NUL: the admin protocol"
            " of gearmand separates words by blanks and has no quotes, so that no command can name"
            " it. Give functions names without blanks"
        )
    if len(text.encode(errors="surrogateescape")) > MAX_FUNCTION:
        raise ValueError(f"{what} '{escaped(text, 80)}' is over {MAX_FUNCTION} bytes long")
    return text
