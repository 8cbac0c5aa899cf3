# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has put into its host for a time, noted before it is done.

Each run has one file in DIRECTORY while it has anything open. A run that is killed leaves its file
behind, and the next run of any module that changes the host takes back what is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat

from ..failure import GearvisorError
from . import directories, files, processes

DIRECTORY = "/var/lib/gearvisor/journal"
VERSION = 1
_MAX_BYTES = 64 * 1024 * 1024


def note(host, kind, **facts):
    """Note one thing before it is done; return its entry for forget(). *facts* are JSON types.

    *kind* has an undo function in recovery.UNDO. Raises OSError if it cannot be noted.
    """
    path = _path(host)
    record = _read(path) if os.path.lexists(path) else _new_record(host)
    number = 1 + max((entry["number"] for entry in record["entries"]), default=0)
    record["entries"].append({"number": number, "kind": kind, "facts": facts})
    directories.make(os.path.dirname(path), 0o700, os.geteuid(), os.getegid(), _trusted())
    _write(path, record)
    return number


def forget(host, number):
    """Take an entry back, since what it was about is over."""
    path = _path(host)
    record = _read(path)
    record["entries"] = [entry for entry in record["entries"] if entry["number"] != number]
    if record["entries"]:
        _write(path, record)
    else:
        os.unlink(path)


def recover(host, undo, report_only=False):
    """Take back what interrupted runs have left; return sentences about it.

    *undo*: {kind: function (host, facts) -> sentences}.

    With *report_only* nothing is touched. A file that is damaged, foreign or of a newer version
    is reported and left, never fatal; so is an entry that cannot be undone.
    """
    directory = host.path(host.journal)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    reports = []
    for name in names:
        path = os.path.join(directory, name)
        if name.startswith("."):
            # A note that was not finished before it was begun on: the lock keeps others from here.
            if not report_only:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            continue
        try:
            record = _read(path)
        except (OSError, ValueError, KeyError, TypeError, GearvisorError) as error:
            reports.append(
                f"The journal {host.journal}/{name} cannot be used: {error}. It is left as it is; inspect it "
                "and remove it"
            )
            continue
        if _lives(host, record):
            continue
        if report_only:
            reports.append(
                f"A run of {record['module']} was interrupted; the next run that is not in check mode takes "
                "back what it left"
            )
            continue
        reports += _undo(host, undo, path, record)
    return reports


def _undo(host, undo, path, record):
    reports, left = [], []
    for entry in reversed(record["entries"]):
        try:
            if entry["kind"] not in undo:
                raise GearvisorError("this version does not know how")
            undone = undo[entry["kind"]](host, entry["facts"])
        except Exception as error:
            left.insert(0, entry)
            reports.append(f"{entry['kind']} could not be taken back: {error}")
        else:
            reports += undone
    if left:
        _write(path, {**record, "entries": left})
    else:
        os.unlink(path)
    found = f": {'; '.join(reports)}" if reports else ", and had left nothing to take back"
    return [f"A run of {record['module']} was interrupted{found}"]


def _path(host):
    return os.path.join(
        host.path(host.journal), f"{os.getpid()}-{processes.started(os.getpid())}.json"
    )


def _new_record(host):
    return {
        "version": VERSION,
        "module": host.module,
        "pid": os.getpid(),
        "pid_started": processes.started(os.getpid()),
        "boot_id": processes.boot_id(),
        "entries": [],
    }


def _lives(host, record):
    if record["pid"] == os.getpid() and record["pid_started"] == processes.started(os.getpid()):
        return True
    if record["boot_id"] != processes.boot_id():
        return False
    return processes.started(record["pid"], host.proc) == record["pid_started"]


def _read(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in _trusted():
            raise ValueError("it is not a file that root owns")
        if found.st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        record = json.loads(file.read())
    if not isinstance(record, dict) or record.get("version") != VERSION:
        version = record.get("version") if isinstance(record, dict) else None
        raise ValueError(f"its version is {version!r}, this one knows {VERSION}")
    types = {"module": str, "pid": int, "pid_started": int, "boot_id": str, "entries": list}
    for name, kind in types.items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"its {name} is missing or damaged")
    for entry in record["entries"]:
        if not isinstance(entry, dict) or not entry.keys() >= {"number", "kind", "facts"}:
            raise ValueError("an entry is damaged")
    return record


def _write(path, record):
    files.write_text(path, json.dumps(record), 0o600, os.geteuid(), os.getegid())


def _trusted():
    return frozenset({0, os.geteuid()})
