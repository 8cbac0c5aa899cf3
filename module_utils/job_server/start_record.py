# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the running gearmand was started with, when the files are others by now: the start record."""

from __future__ import annotations

import contextlib
import json
import os

from ..host.files import read_text, write_text

PATH = "/run/gearvisor-gearman-job-server.json"


def save(host, current, before):
    """Record what the running server was started with; *before*: {path: text} that change now."""
    if current is None:
        return
    record = {"process": current.process.identity(), "files": {**before, **current.files}}
    write_text(host.path(PATH), json.dumps(record), 0o600, os.geteuid(), os.getegid())


def clear(host):
    """Remove the record: the server that it is about has ended."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(host.path(PATH))


def files_of(host, process):
    """Return {path: text or None} recorded for the Process; {} without a record of it."""
    try:
        record = json.loads(read_text(host.path(PATH)) or "{}")
        files = record["files"] if record.get("process") == process.identity() else {}
    except (ValueError, KeyError, AttributeError):
        return {}
    return files if isinstance(files, dict) else {}
