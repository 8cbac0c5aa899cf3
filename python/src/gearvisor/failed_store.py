# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps failed jobs in a directory, as their worker: see failed for the files.

An entry is on the disk before its failure is reported to the job server. A worker that is killed
between the two leaves the entry, and the job is handed out again: it may fail twice, but it is
never lost. Several workers share a directory without a lock: each file is written at once, under
a name of its own.
"""

from __future__ import annotations

import os
import time
from typing import Any

from . import failed, regular_file, unique_ids

MAX_ENTRIES = 10_000  # kept in a directory, but for the few of workers that write meanwhile
MAX_BYTES = 256 * 2**20  # of all files together, likewise
TRIM_EVERY = 16  # entries that a worker adds between two looks at what is there
TRIM_TO = 0.95  # share of the bounds that is left
LEFTOVER = 3600.0  # seconds after which a file that was never finished goes


class FailedStore:
    """The directory of failed jobs of one user's workers.

    keep_payload: false leaves payloads out, when they hold secrets.
    kept, dropped, unwritten: entries that this worker wrote, removed since there were too many,
    and could not write.
    """

    def __init__(
        self,
        directory: str,
        *,
        keep_payload: bool = True,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.directory = directory
        self.kept = self.dropped = self.unwritten = 0
        self._keep_payload = keep_payload
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._until_trim = 0  # entries; at first there may be any number

    def add(
        self, function: str, payload: bytes, attempt: dict[str, Any], *, whole: bool = False
    ) -> str:
        """Keep a job that failed for good (attempt: failed.attempt_of); return the entry's id.

        A retry becomes one more attempt of its entry, or a new entry with that id where the job
        failed first on another host. whole: a retry whose entry has another function or payload
        is an entry of its own: any client may give such an id to another job.

        Raises OSError, counted in `unwritten`.
        """
        retry = failed.parse_retry(attempt["unique"].encode(errors="replace"))
        try:
            entry = retry and self._read(retry[0])
            if entry and whole and not self._is_of(entry, function, payload):
                entry = retry = None
            if entry:
                entry = failed.with_attempt(entry, attempt)
            else:
                kept = payload if self._keep_payload else None
                name = retry[0] if retry else unique_ids.make()
                entry = failed.entry_of(name, function, attempt, kept, len(payload))
            self._write(entry)
        except OSError:
            self.unwritten += 1
            raise
        self.kept += 1
        self._until_trim -= 1
        if self._until_trim < 0:
            self._trim()
        return str(entry["id"])

    def _is_of(self, entry: dict[str, Any], function: str, payload: bytes) -> bool:
        """Return whether an entry has all of a job that is to be kept."""
        if (entry["function"], entry["payload_bytes"]) != (function, len(payload)):
            return False
        kept = failed.payload_of(entry)
        if kept is None:
            return not self._keep_payload or len(payload) > failed.MAX_PAYLOAD
        return kept == payload

    def _read(self, entry_id: str) -> dict[str, Any] | None:
        """Return an entry that is here, or None; one that cannot be read is made again."""
        path = os.path.join(self.directory, failed.file_name(entry_id))
        try:
            return failed.parse(regular_file.read(path, failed.MAX_BYTES), entry_id)
        except (OSError, ValueError):
            return None

    def _write(self, entry: dict[str, Any]) -> None:
        """Replace an entry's file at once, on the disk when this returns; raises OSError."""
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fresh = f".{entry['id']}.{os.getpid()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        flags |= os.O_NONBLOCK  # a FIFO that has the name is not waited for
        try:
            try:
                with open(os.open(fresh, flags, 0o640, dir_fd=folder), "wb") as file:
                    os.fchmod(file.fileno(), 0o640)
                    file.write(failed.dump(entry))
                    file.flush()
                    os.fsync(file.fileno())
                name = failed.file_name(entry["id"])
                os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                _remove(fresh, folder)
                raise
            os.fsync(folder)
        finally:
            os.close(folder)

    def _trim(self) -> None:
        """Remove the oldest entries until the bounds hold; ids sort by time."""
        self._until_trim = TRIM_EVERY
        try:
            folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            sizes = self._sizes(folder)
            number, size = len(sizes), sum(sizes.values())
            if number <= self._max_entries and size <= self._max_bytes:
                return
            for name in sorted(sizes)[:-1]:
                if number <= TRIM_TO * self._max_entries and size <= TRIM_TO * self._max_bytes:
                    break
                if _remove(name, folder):
                    self.dropped += 1
                number -= 1
                size -= sizes[name]
        finally:
            os.close(folder)

    def _sizes(self, folder: int) -> dict[str, int]:
        """Return the bytes of each entry's file, and remove what other workers never finished."""
        sizes = {}
        long_ago = time.time() - LEFTOVER
        with os.scandir(folder) as entries:
            for each in entries:
                try:
                    facts = each.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone meanwhile
                if failed.id_of(each.name):
                    sizes[each.name] = facts.st_size
                elif each.name.endswith(".tmp") and facts.st_mtime < long_ago:
                    _remove(each.name, folder)
        return sizes


def default_directory(user: str) -> str | None:
    """Return where failed jobs of this user's workers are kept, if there is such a place."""
    path = os.path.join(failed.DIRECTORY, user)
    return path if user and os.path.isdir(path) else None


def _remove(name: str, folder: int) -> bool:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
