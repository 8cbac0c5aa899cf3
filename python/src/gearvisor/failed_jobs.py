# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failed jobs of all users of a host: found, read, retried and dropped.

Workers keep them (failed_store). Their directories are the workers' users': what is in them is
treated as untrusted. A retry moves an entry through two names that workers leave alone:

    ID.json -> .ID.ATTEMPT.PID-STARTED.retrying -> .ID.ATTEMPT.retried

It is `retrying` until the job server has taken the job. A command that dies meanwhile leaves that
name, and the next one gives the entry its first name again: the job may run twice, it is never
lost. It is `retried` afterwards: when the job fails again, its worker makes a new ID.json, and the
attempts of both are shown as one entry.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, Callable, NamedTuple

from . import failed, regular_file, unique_ids
from .errors import GearmanError
from .status_file import pid_started

RETRIED_KEPT = 86_400.0  # seconds that the earlier attempts of a retried job are remembered

_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_RETRYING = re.compile(rf"\.({_ID})\.([0-9]{{1,9}})\.([0-9]{{1,9}})-([0-9]{{1,20}})\.retrying")
_RETRIED = re.compile(rf"\.({_ID})\.([0-9]{{1,9}})\.retried")


class FailedJobError(GearmanError):
    """A failed job cannot be read, retried or dropped; the message names it and the reason."""


class Place(NamedTuple):
    """Where an entry is. user: name of the directory, which is the user of its workers.

    earlier: names of the files with the attempts before its last retry.
    """

    id: str
    user: str
    folder: str
    earlier: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The entry's file."""
        return os.path.join(self.folder, failed.file_name(self.id))


class Filter(NamedTuple):
    """Which entries are meant. since: seconds since the epoch; text: in the error or payload."""

    function: str | None = None
    since: float | None = None
    text: str | None = None

    def takes(self, entry: dict[str, Any]) -> bool:
        """Return whether an entry is meant, by what is in it."""
        if self.function is not None and entry["function"] != self.function:
            return False
        if self.since is not None and entry["failed"] < self.since:
            return False
        if self.text is None:
            return True
        needle = self.text.lower()
        if any(needle in (entry[name] or "").lower() for name in ("error", "traceback", "unique")):
            return True
        return self.text.encode(errors="surrogateescape") in (failed.payload_of(entry) or b"")


def places(directory: str = failed.DIRECTORY, user: str | None = None) -> list[Place]:
    """Return where all entries are, those that failed last first; raises FailedJobError.

    No file is read for it. Sorted by the time in the ids, which is that of the first failure.
    """
    found = []
    for each in _users(directory):
        if user is not None and each.name != user:
            continue
        names = _names(each.path)
        earlier: dict[str, list[str]] = {}
        for name in names:
            retried = _RETRIED.fullmatch(name)
            if retried:
                earlier.setdefault(retried[1], []).append(name)
        for name in names:
            entry_id = failed.id_of(name)
            if entry_id:
                before = tuple(earlier.get(entry_id, ()))
                found.append(Place(entry_id, each.name, each.path, before))
    return sorted(found, reverse=True)


def users(
    directory: str = failed.DIRECTORY, user: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the users whose entries we may list, and the others; raises FailedJobError."""
    shown: list[str] = []
    hidden: list[str] = []
    for each in _users(directory):
        if user in (None, each.name):
            (shown if os.access(each.path, os.R_OK | os.X_OK) else hidden).append(each.name)
    return shown, hidden


def store_size(directory: str = failed.DIRECTORY) -> tuple[int, int]:
    """Return the number of entries and the bytes of all files; what is out of reach counts 0."""
    number = size = 0
    try:
        folders = list(_users(directory))
    except FailedJobError:
        return 0, 0
    for folder in folders:
        try:
            with os.scandir(folder.path) as entries:
                for each in entries:
                    size += each.stat(follow_symlinks=False).st_size
                    number += failed.id_of(each.name) is not None
        except OSError:
            continue
    return number, size


def read(place: Place, limit: int = failed.MAX_BYTES) -> dict[str, Any]:
    """Return an entry with all its attempts that are known; raises FailedJobError.

    limit: bytes of its file, above which it is not read.
    """
    entry = _read(place.path, place.id, limit)
    earlier: list[dict[str, Any]] = []
    for name in place.earlier:
        try:
            earlier += _read(os.path.join(place.folder, name), place.id)["attempts"]
        except FailedJobError:
            continue  # only a part of its history
    if earlier:
        attempts = {each["unique"]: each for each in [*earlier, *entry["attempts"]]}
        entry["attempts"] = sorted(attempts.values(), key=lambda each: float(each["failed"]))
    return entry


def _read(path: str, entry_id: str, limit: int = failed.MAX_BYTES) -> dict[str, Any]:
    try:
        return failed.parse(regular_file.read(path, limit), entry_id)
    except OSError as error:
        raise FailedJobError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise FailedJobError(f"{path}: not a failed job: {error}") from None


def attempts(entry: dict[str, Any]) -> int:
    """Return how often the job failed, as far as is known: retries carry their number."""
    retry = failed.parse_retry(entry["unique"].encode(errors="replace"))
    return max(len(entry["attempts"]), retry[1] if retry else 1)


def select(
    found: Iterable[Place], wanted: Filter, unreadable: Callable[[FailedJobError], object]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Read entries, one at a time, and return those that are meant.

    unreadable: called with the error of each that cannot be read, but for those gone meanwhile.
    """
    for place in found:
        try:
            entry = read(place)
        except FailedJobError as error:
            if os.path.lexists(place.path):
                unreadable(error)
            continue
        if wanted.takes(entry):
            yield place, entry


def retry(place: Place, submit: Callable[[str, bytes, str], object]) -> str:
    """Submit an entry's job again; return its unique id. Raises FailedJobError.

    submit: called with function, payload and unique id; returns once a job server has the job.
    When it raises, the entry is back where it was, and the error is passed on.
    """
    entry = read(place)
    payload = failed.payload_of(entry)
    if payload is None:
        raise FailedJobError(
            f"{place.id}: its payload was not kept ({entry['payload_bytes']} bytes), so that it"
            " cannot be retried here. Submit the job again where it came from, then drop this entry"
        )
    attempt = attempts(entry) + 1
    own = f"{os.getpid()}-{pid_started(os.getpid())}"
    with _Folder(place.folder) as folder:
        retrying = f".{place.id}.{attempt}.{own}.retrying"
        if not folder.rename(failed.file_name(place.id), retrying):
            raise FailedJobError(f"{place.id}: another command or worker has it now")
        unique = failed.retry_unique(place.id, attempt)
        try:
            submit(entry["function"], payload, unique)
        except BaseException:
            folder.give_back(retrying, place.id)
            raise
        folder.rename(retrying, f".{place.id}.{attempt}.retried")
    return unique


def drop(place: Place) -> None:
    """Remove an entry with its earlier attempts; raises FailedJobError."""
    with _Folder(place.folder) as folder:
        if not folder.remove(failed.file_name(place.id)):
            raise FailedJobError(f"{place.id}: another command or worker has it now")
        for name in place.earlier:
            folder.remove(name)


def recover(directory: str = failed.DIRECTORY) -> list[str]:
    """Give entries their names again that a retry left when it died; return their ids.

    Earlier attempts of retried jobs that were not heard of for long are removed.
    """
    recovered = []
    long_ago = time.time() - RETRIED_KEPT
    for each in _users(directory):
        for name in _names(each.path, "."):
            retrying, retried = _RETRYING.fullmatch(name), _RETRIED.fullmatch(name)
            if retrying and pid_started(int(retrying[3])) != int(retrying[4]):
                with _Folder(each.path) as folder:
                    if folder.give_back(name, retrying[1]):
                        recovered.append(retrying[1])
            elif retried and _changed(os.path.join(each.path, name)) < long_ago:
                with _Folder(each.path) as folder:
                    folder.remove(name)
    return recovered


def begin_so(found: Iterable[Place], given: str) -> dict[str, Place]:
    """Return the entries whose id is, or begins with, what was given."""
    return {each.id: each for each in found if each.id.startswith(given.lower())}


def resolve(found: Iterable[Place], given: str) -> Place:
    """Return the only entry of begin_so; raises FailedJobError."""
    fitting = begin_so(found, given)
    if len(fitting) == 1:
        return fitting.popitem()[1]
    if fitting:
        raise FailedJobError(f"{given}: {len(fitting)} failed jobs begin so; give more of the id")
    raise FailedJobError(f"{given}: no failed job has this id; see `gearvisor failed list`")


def first_failed(place: Place) -> float:
    """Return when the job failed first, by its id; 0 when the id does not show it."""
    return unique_ids.made_at(place.id, time.time()) or 0.0


def _users(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return [each for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise FailedJobError(
            f"{directory}: {error.strerror}. Failed jobs are kept there by workers that the role"
            " gearman_worker set up; root and members of the group gearvisor may read them"
        ) from error


def _names(folder: str, start: str = "") -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.startswith(start)]
    except OSError:  # of a user whose entries are not for us
        return []


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return float("inf")


class _Folder:
    """A directory of entries, held open: what its owner puts in its place does not matter."""

    def __init__(self, path: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags)
        except OSError as error:
            raise FailedJobError(f"{path}: {error.strerror}") from error
        self._path = path

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def rename(self, old: str, new: str) -> bool:
        """Rename a file; return whether it was there."""
        return self._try(
            lambda: os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        )

    def remove(self, name: str) -> bool:
        """Remove a file; return whether it was there."""
        return self._try(lambda: os.unlink(name, dir_fd=self._descriptor))

    def give_back(self, name: str, entry_id: str) -> bool:
        """Give an entry its own name again, unless its worker has made it again meanwhile."""
        here = self._descriptor
        own = failed.file_name(entry_id)
        try:
            os.link(name, own, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
        except FileExistsError:
            pass
        except OSError:
            return False
        return self.remove(name)

    def _try(self, change: Callable[[], None]) -> bool:
        try:
            change()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FailedJobError(
                f"{self._path}: {error.strerror}. Run it as root, or as the workers' user"
            ) from error
        return True
