# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job as its function sees it, and its end on the wire and in the log."""

from __future__ import annotations

import logging
from typing import Callable

from . import unique_ids
from .errors import JobFailed, JobTimeLimit
from .protocol import Packet, encode

log = logging.getLogger("gearvisor.worker")


class Job:
    """A job as its function sees it. data: the payload. `send` sends all of a packet."""

    __slots__ = ("_function", "_handle", "_send_packet", "_unique", "data")

    def __init__(
        self,
        send: Callable[[bytes], None],
        handle: bytes,
        function: bytes,
        unique: bytes,
        data: bytes,
    ) -> None:
        self.data = data
        self._function = function
        self._handle = handle
        self._unique = unique
        self._send_packet: Callable[[bytes], None] | None = send

    # As text only where it is asked for: most functions need none of them.

    @property
    def function(self) -> str:
        """The name it was submitted to."""
        return self._function.decode(errors="replace")

    @property
    def handle(self) -> str:
        """The job server's name for it."""
        return self._handle.decode(errors="replace")

    @property
    def unique(self) -> str:
        """Its unique id."""
        return self._unique.decode(errors="replace")

    @property
    def raw_function(self) -> bytes:
        """The function's name as on the wire."""
        return self._function

    @property
    def raw_handle(self) -> bytes:
        """The handle as on the wire."""
        return self._handle

    @property
    def raw_unique(self) -> bytes:
        """The unique id as on the wire."""
        return self._unique

    def waited(self, now: float) -> float | None:
        """Seconds from its submission until `now` (of the epoch); None: its id does not show it."""
        made = unique_ids.made_at(self._unique, now)
        return None if made is None else now - made

    def send_data(self, data: bytes) -> None:
        """Send a part of the result, or news, to the client at once (WORK_DATA).

        Like the other send methods, raises ServerUnavailable when the connection is lost; then
        the job is being done again elsewhere and its result here will be dropped.
        """
        self._send(Packet.WORK_DATA, data)

    def send_warning(self, data: bytes) -> None:
        """Send a warning to the client (WORK_WARNING)."""
        self._send(Packet.WORK_WARNING, data)

    def send_status(self, numerator: int, denominator: int) -> None:
        """Report how much of the job is done (WORK_STATUS)."""
        self._send(Packet.WORK_STATUS, b"%d" % numerator, b"%d" % denominator)

    def _send(self, kind: Packet, *arguments: bytes) -> None:
        if self._send_packet is None:
            raise RuntimeError(f"job {self.handle} is over; its function has returned")
        self._send_packet(encode(kind, self._handle, *arguments))

    def over(self) -> None:
        """Let nothing more be sent: to be called before the job's final packet goes."""
        self._send_packet = None


def is_async(function: object) -> bool:
    """Whether it was defined with `async def`, found without importing inspect."""
    code = getattr(function, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & 0x80)  # CO_COROUTINE


def is_async_callable(function: object) -> bool:
    """Whether calling it makes a coroutine: an async function, or an object that is called so."""
    return is_async(function) or is_async(getattr(function, "__call__", None))  # noqa: B004


def completed(job: Job, handle: bytes, returned: object) -> bytes:
    """The final packet for what a function returned; raises TypeError if it is not valid."""
    if returned is None:
        returned = b""
    elif isinstance(returned, str):
        returned = returned.encode()
    elif not isinstance(returned, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"function {job.function!r} returned {type(returned).__name__}, not bytes, str or None"
        )
    return encode(Packet.WORK_COMPLETE, handle, returned)


def failed(job: Job, handle: bytes, error: BaseException, seconds: float) -> bytes:
    """Log a failure; return the final packet that reports it to the client."""
    log_failure(job, error, seconds)
    return failure(handle, error)


def failure(handle: bytes, error: BaseException) -> bytes:
    """Return the final packet that reports an error to the client."""
    if isinstance(error, JobFailed):
        return encode(Packet.WORK_FAIL, handle)
    return encode(Packet.WORK_EXCEPTION, handle, text_of(error).encode(errors="replace"))


def log_failure(job: Job, error: BaseException, seconds: float) -> None:
    """Log a job that failed."""
    fields = log_fields(job, seconds, outcome_of(error))
    if isinstance(error, JobFailed):
        log.warning("job %s of %s failed: %s", job.handle, job.function, error, extra=fields)
    else:
        log.error("job %s of %s raised", job.handle, job.function, exc_info=error, extra=fields)


def outcome_of(error: BaseException | None) -> str:
    """Return how a job ended, in a word: as log lines and failed jobs have it."""
    if error is None:
        return "done"
    if isinstance(error, JobFailed):
        return "failed"
    return "timeout" if isinstance(error, JobTimeLimit) else "exception"


def text_of(error: BaseException) -> str:
    """Return an exception's type and text."""
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback, even if its own text raises."""
    import traceback

    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def log_fields(job: Job, seconds: float | None, outcome: str) -> dict[str, object]:
    """What a log line about a job carries besides its text: logs.JOB_FIELDS."""
    fields: dict[str, object] = {
        "function": job.function,
        "handle": job.handle,
        "unique": job.unique,
        "outcome": outcome,
    }
    if seconds is not None:
        fields["seconds"] = round(seconds, 6)
    return fields
