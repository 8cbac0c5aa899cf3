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
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')  # as they are in JSON


class StatusFile:
    """The status file of one worker process, with the jobs in progress in its lanes.

    lanes: how many jobs the worker does at once. Lane 0 is `job`, the others are `other_jobs`.
    functions: the names that it serves, as on the wire.

    write() raises OSError; start_job() and end_job() never do.
    """

    def __init__(self, path: str, functions: Sequence[bytes], lanes: int = 1) -> None:
        self.path = path
        # The beginning of a record, made once: the rest is a part of each job's cost.
        self._starts = {
            name: b'{"function": %b, "handle": ' % _json_text(name) for name in functions
        }
        longest = max((len(start) for start in self._starts.values()), default=2)
        # A byte that is not UTF-8 takes six characters in JSON.
        self._room = longest + 2 * (6 * _TEXT_ROOM + 2) + 120
        self._lanes = [b"null"] * lanes
        self._offsets: list[int] = []
        # What is stored there is in the file, also when the process is killed in the next moment.
        # Two system calls per job would be most of what the file costs.
        self._map: mmap.mmap | None = None

    def write(self, snapshot: Mapping[str, Any]) -> None:
        """Replace the file at once, so that a reader never sees half of it; raises OSError."""
        import json

        records = [record.ljust(self._room) for record in self._lanes]
        parts = [b'{"job": ', records[0], b",\n"]
        offsets = [len(parts[0])]
        if len(records) > 1:
            separator = b'"other_jobs": ['
            for record in records[1:]:
                parts.append(separator)
                offsets.append(sum(map(len, parts)))
                parts.append(record)
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
        start = self._starts[function]
        waited = b"null" if wait is None else b"%.3f" % wait
        both = handle + unique
        if both.translate(None, _PLAIN) or len(both) > 2 * _TEXT_ROOM:
            handle, unique = (_json_text(text[:_TEXT_ROOM])[1:-1] for text in (handle, unique))
        record = b'%b"%b", "unique": "%b", "since": %.3f, "wait": %b}' % (
            start,
            handle,
            unique,
            since,
            waited,
        )
        # Blanks cover what is left of a longer record; those behind it are there already.
        self._lanes[lane] = record = record.ljust(len(self._lanes[lane]))
        if self._map is not None:
            offset = self._offsets[lane]
            self._map[offset : offset + len(record)] = record

    def end_job(self, lane: int = 0) -> None:
        """Note that no job is in progress in a lane."""
        # As above, not in a function of its own: a call would cost as much as the rest.
        self._lanes[lane] = record = b"null".ljust(len(self._lanes[lane]))
        if self._map is not None:
            offset = self._offsets[lane]
            self._map[offset : offset + len(record)] = record

    def remove(self) -> None:
        """Close the file and remove it, if it is there and can be removed."""
        self._close()
        remove(self.path)

    def _close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def _json_text(text: bytes) -> bytes:
    return encode_basestring_ascii(text.decode("utf-8", "replace")).encode("ascii")


def remove(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        pass
