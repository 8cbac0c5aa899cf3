# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that shows what a worker process does, as it is read.

docs/worker-facts.md has the format, which PHP workers write as well. The file is replaced as a
whole about once a second, while no job runs. Its first member is the job in progress, in a space
of fixed size that is overwritten before each job and after it: so when a job kills its worker,
the file still names it.

Readers are often root, writers are not: read() treats the content as untrusted. The writer is
status_writer.StatusFile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from . import percent, regular_file
from .errors import GearmanError

DIRECTORY = "/run/gearvisor"  # one directory per user in it
VERSION = 1  # of the format
MAX_BYTES = 2**20  # of a file that read() takes
MAX_FILES = 20_000  # that paths() finds

_DIGITS = 20  # of a whole number that is believed
_ATTEMPTS = 4  # a read beside a write may find half of it


class StatusFileError(GearmanError):
    """A status file cannot be read, or is not one; the message names it and the reason."""


def default_path(worker: str, user: str, directory: str = DIRECTORY) -> str | None:
    """Return the path of the status file of a worker, HOST/PROCESS as in GEARVISOR_WORKER.

    None: this user's directory does not exist, or the name holds no process.
    """
    process = worker.partition("/")[2]
    folder = os.path.join(directory, user)
    if not process or not user or not os.path.isdir(folder):
        return None
    return os.path.join(folder, percent.encoded(os.fsencode(process)) + ".json")


def paths(directory: str = DIRECTORY) -> list[str]:
    """Return the paths of all status files, sorted; what cannot be listed is left out."""
    found: list[str] = []
    for user in _entries(directory):
        if len(found) >= MAX_FILES or not user.is_dir(follow_symlinks=False):
            continue
        found.extend(each.path for each in _entries(user.path) if each.name.endswith(".json"))
    return sorted(found[:MAX_FILES])


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except OSError:
        return


def read(path: str) -> dict[str, Any]:
    """Return the status in a file, every member of the format in it and of its type.

    Raises StatusFileError: it cannot be read, is not a regular file, is over MAX_BYTES, or does
    not hold the format. Texts in it may hold any characters: escape what a person reads.
    """
    for attempt in range(_ATTEMPTS):
        content = _content(path)
        try:
            return parse(content)
        except ValueError as error:
            if attempt == _ATTEMPTS - 1:
                raise StatusFileError(f"{path}: not a status file: {error}") from None
            time.sleep(0.001)
    raise AssertionError("unreachable")


def _content(path: str) -> bytes:
    try:
        return regular_file.read(path, MAX_BYTES)
    except OSError as error:
        raise StatusFileError(f"{path}: {error.strerror}") from error


def running(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs in progress, the oldest first."""
    jobs = [each for each in (status["job"], *status["other_jobs"]) if each is not None]
    return sorted(jobs, key=lambda job: float(job["since"]))


def is_alive(status: Mapping[str, Any]) -> bool:
    """Whether the process that wrote it still runs: same pid, started at the same time."""
    return bool(status["pid_started"]) and status["pid_started"] == pid_started(status["pid"])


def pid_started(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0: no such process.

    Linux: field 22 of proc_pid_stat(5), counted behind the name, which may hold blanks.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


# The format: how each member is taken from untrusted JSON.


def parse(content: bytes) -> dict[str, Any]:
    """Return the status in the content of a file; raises ValueError saying what is wrong."""
    import json

    try:
        document = json.loads(content, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    version = document.get("version", VERSION)
    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"version {version} of the format; this Gearvisor knows {VERSION}")
    return {name: take(document.get(name)) for name, take in _MEMBERS.items()}


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= _DIGITS else 0  # many take Python long, or are refused


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63:
        return value  # which neither nan nor inf is
    return 0


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value)


def _count(value: object) -> int:
    return max(0, int(_number(value)))


def _members(table: Mapping[str, Callable[[object], Any]]) -> Callable[[object], dict[str, Any]]:
    def take(value: object) -> dict[str, Any]:
        given = value if isinstance(value, dict) else {}
        return {name: each(given.get(name)) for name, each in table.items()}

    return take


def _map_of(take: Callable[[object], Any]) -> Callable[[object], dict[str, Any]]:
    return lambda value: (
        {name: take(each) for name, each in value.items()} if isinstance(value, dict) else {}
    )


def _list_of(take: Callable[[object], Any]) -> Callable[[object], list[Any]]:
    return lambda value: [take(each) for each in value] if isinstance(value, list) else []


_take_job = _members(
    {
        "function": _text,
        "handle": _text,
        "unique": _text,
        "since": _number,
        "wait": _number_or_none,
    }
)


def _job(value: object) -> dict[str, Any] | None:
    return _take_job(value) if isinstance(value, dict) else None


_waits = _members({"count": _count, "seconds": _number, "max": _number, "last": _number})
_tally = {"done": _count, "failed": _count, "seconds": _number, "waits": _waits}

_MEMBERS: dict[str, Callable[[object], Any]] = {
    "job": _job,
    "other_jobs": _list_of(_job),
    "version": _count,
    "client_id": _text,
    "language": _text,
    "program": _text_or_none,
    "process": _text_or_none,
    "pid": _count,
    "pid_started": _count,
    "release": _text_or_none,
    "started": _number,
    "updated": _number,
    **_tally,
    "died": _count,
    "functions": _map_of(_members(_tally)),
    "paused": _list_of(_text),
    "servers": _map_of(bool),
    "rss": _number_or_none,
    "limits": _members(
        dict.fromkeys(
            ("max_jobs", "max_seconds", "max_rss", "job_timeout", "stop_timeout"),
            _number_or_none,
        )
    ),
    "failed_jobs": _members({"kept": _count, "dropped": _count, "unwritten": _count}),
}
