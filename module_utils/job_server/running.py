# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gearmand that runs now: what it was started with, and what jobs it has."""

from __future__ import annotations

import contextlib
import json
import os
from typing import NamedTuple

from ..gearvisor.admin import Admin
from ..gearvisor.errors import GearmanError
from ..host.files import read_text, write_text
from ..host.process import Process
from . import config

# Which files the running server was started with, when they are others by now.
NOTE = "/run/gearvisor-gearman-job-server.json"
ADMIN_SECONDS = 5


class Current(NamedTuple):
    """The server that runs: its process, what it was started with, and its jobs.

    files is {path: text} of those that have changed since. jobs is {function: FunctionStatus} of
    the functions that have any; it is None, as admin is, when the server does not answer. workers
    is {function: number} of those that are served.
    """

    process: Process
    files: dict
    started: config.Running
    jobs: dict
    workers: dict
    admin: Admin


def look(process):
    """Return Current of the Process, or None when there is none."""
    if process is None:
        return None
    files = _noted(process)
    argv = process.argv()
    path = config.config_file_of(argv)
    started = config.running_settings(argv, files.get(path, read_text(path)))
    admin = jobs = None
    workers = {}
    with contextlib.suppress(GearmanError, OSError, ValueError):
        admin = Admin(started.address, ADMIN_SECONDS)
        status = admin.status()
        jobs = {name: each for name, each in status.items() if each.queued or each.running}
        workers = {name: each.workers for name, each in status.items() if each.workers}
    return Current(process, files, started, jobs, workers, admin)


def take_note(current, before):
    """Remember what the running server was started with; *before* are the files that change now."""
    if current is not None:
        note = {"process": current.process.identity(), "files": {**before, **current.files}}
        write_text(NOTE, json.dumps(note), 0o600)


def forget_note():
    """Forget it: the server that it is about is gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(NOTE)


def _noted(process):
    try:
        note = json.loads(read_text(NOTE) or "{}")
    except ValueError:
        return {}
    return note["files"] if note.get("process") == process.identity() else {}
