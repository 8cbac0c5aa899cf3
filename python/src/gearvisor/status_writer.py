# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status file of a worker as the worker writes it: see status_file for what it is."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

_TEXT_ROOM = 63  # bytes kept of a handle and of a unique id: what the protocol allows


class StatusFile:
    """The status file of one worker process, with the jobs in progress in its lanes.

    lanes: how many jobs the worker does at once. Lane 0 is `job`, the others are `other_jobs`.
    functions: the names that it serves, as on the wire.

    write() raises OSError; start_job() and end_job() never do.
    """

    def __init__(self, path: str, functions: Sequence[bytes], lanes: int = 1) -> None:
        self.path = path
        # The beginning of a record, made once: the rest is a part of each job's cost.
        self._starts = {name: f'{{"function": {_json_text(name)}, "handle": ' for name in functions}
        longest = max((len(start) for start in self._starts.values()), default=2)
        # A byte that is not UTF-8 takes six characters in JSON.
        self._room = longest + 2 * (6 * _TEXT_ROOM + 2) + 120
        self._free = b"null".ljust(self._room)
        self._lanes = [self._free] * lanes
        self._offsets: list[int] = []
        # What is stored there is in the file, also when the process is killed in the next moment.
        # Two system calls per job would be most of what the file costs.
        self._map: mmap.mmap | None = None

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
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(fresh, flags, 0o640)
        try:
            os.fchmod(descriptor, 0o640)
            content = b"".join(parts)
            if os.write(descriptor, content) != len(content):
                raise OSError(28, "No space left on device")
            content_map = mmap.mmap(descriptor, len(content))
            os.replace(fresh, self.path)
        except OSError:
            remove(fresh)
            raise
        finally:
            os.close(descriptor)
        self._close()
        self._map, self._offsets = content_map, offsets

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
        record = (
            f"{self._starts[function]}{_json_text(handle[:_TEXT_ROOM])}, "
            f'"unique": {_json_text(unique[:_TEXT_ROOM])}, "since": {since:.3f}, '
            f'"wait": {"null" if wait is None else f"{wait:.3f}"}}}'
        )
        self._put(lane, record.encode("ascii").ljust(self._room))

    def end_job(self, lane: int = 0) -> None:
        """Note that no job is in progress in a lane."""
        self._put(lane, self._free)

    def _put(self, lane: int, record: bytes) -> None:
        self._lanes[lane] = record
        if self._map is not None:
            offset = self._offsets[lane]
            self._map[offset : offset + self._room] = record

    def remove(self) -> None:
        """Close the file and remove it, if it is there and can be removed."""
        self._close()
        remove(self.path)

    def _close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def _json_text(text: bytes) -> str:
    return encode_basestring_ascii(text.decode("utf-8", "replace"))


def remove(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        pass
