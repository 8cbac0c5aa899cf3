# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status file of a worker as the worker writes it: see status_file for what it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

# A part of each job's cost: formatting text is twice as fast as formatting bytes.
_JOB = '{{"function": {}, "handle": {}, "unique": {}, "since": {:.3f}, "wait": {}}}'.format

_TEXT_ROOM = 63  # bytes kept of a handle and of a unique id: what the protocol allows


class StatusFile:
    """The status file of one worker process, with the jobs in progress in its lanes.

    lanes: how many jobs the worker does at once. Lane 0 is `job`, the others are `other_jobs`.
    functions: the names that it serves, as on the wire.

    write() raises OSError; start_job() and end_job() never do.
    """

    def __init__(self, path: str, functions: Sequence[bytes], lanes: int = 1) -> None:
        self.path = path
        self._functions = {name: _json_text(name) for name in functions}
        longest = max((len(name) for name in self._functions.values()), default=2)
        # A byte that is not UTF-8 takes six characters in JSON.
        self._room = longest + 2 * (6 * _TEXT_ROOM + 2) + 120
        self._free = b"null".ljust(self._room)
        self._lanes = [self._free] * lanes
        self._offsets: list[int] = []
        self._descriptor = -1

    def write(self, snapshot: Mapping[str, Any]) -> None:
        """Replace the file at once, so that a reader never sees half of it; raises OSError."""
        import json

        parts = [b'{"job": ', self._lanes[0], b",\n"]
        offsets = [len(parts[0])]
        if len(self._lanes) > 1:
            separator = b'"other_jobs": ['
            for lane in self._lanes[1:]:
                parts.append(separator)
                offsets.append(sum(map(len, parts)))
                parts.append(lane)
                separator = b",\n"
            parts.append(b"],\n")
        parts += [json.dumps(snapshot)[1:].encode("ascii"), b"\n"]
        fresh = f"{self.path}.{os.getpid()}.tmp"
        remove(fresh)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o640)
        try:
            os.fchmod(descriptor, 0o640)
            content = b"".join(parts)
            if os.write(descriptor, content) != len(content):
                raise OSError(28, "No space left on device")
            os.replace(fresh, self.path)
        except OSError:
            os.close(descriptor)
            remove(fresh)
            raise
        self._close()
        self._descriptor, self._offsets = descriptor, offsets

    def start_job(
        self,
        function: bytes,
        handle: bytes,
        unique: bytes,
        since: float,
        wait: float | None,
        lane: int = 0,
    ) -> None:
        """Note a job in the file before its function is called; since: seconds of the epoch."""
        record = _JOB(
            self._functions[function],
            _json_text(handle[:_TEXT_ROOM]),
            _json_text(unique[:_TEXT_ROOM]),
            since,
            "null" if wait is None else f"{wait:.3f}",
        )
        self._put(lane, record.encode("ascii").ljust(self._room))

    def end_job(self, lane: int = 0) -> None:
        """Note that no job is in progress in a lane."""
        self._put(lane, self._free)

    def _put(self, lane: int, record: bytes) -> None:
        self._lanes[lane] = record
        if self._descriptor >= 0:
            try:
                os.pwrite(self._descriptor, record, self._offsets[lane])
            except OSError:
                pass  # the next write() reports it

    def remove(self) -> None:
        """Close the file and remove it, if it is there and can be removed."""
        self._close()
        remove(self.path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _json_text(text: bytes) -> str:
    return encode_basestring_ascii(text.decode("utf-8", "replace"))


def remove(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        pass
