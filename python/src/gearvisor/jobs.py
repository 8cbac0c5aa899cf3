# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job as its function sees it, and its end on the wire and in the log."""

from __future__ import annotations

import logging
from typing import Callable

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
        """Say how much of the job is done (WORK_STATUS)."""
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


def completed(job: Job, handle: bytes, returned: object) -> bytes:
    """The final packet for what a function returned; raises TypeError if that is no result."""
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
    """Log a failure; return the final packet that tells it to the client."""
    if isinstance(error, JobFailed):
        fields = log_fields(job, seconds, "failed")
        log.warning("job %s of %s failed: %s", job.handle, job.function, error, extra=fields)
        return encode(Packet.WORK_FAIL, handle)
    fields = log_fields(job, seconds, "timeout" if isinstance(error, JobTimeLimit) else "exception")
    log.error("job %s of %s raised", job.handle, job.function, exc_info=error, extra=fields)
    try:
        said = str(error)
    except Exception:
        said = ""
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return encode(Packet.WORK_EXCEPTION, handle, text.encode(errors="replace"))


def log_fields(job: Job, seconds: float, outcome: str) -> dict[str, object]:
    """What a log line about a job carries besides its text: logs.JOB_FIELDS."""
    return {
        "function": job.function,
        "handle": job.handle,
        "seconds": round(seconds, 6),
        "outcome": outcome,
    }
