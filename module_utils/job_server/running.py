# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gearmand that runs now: what it was started with, and what jobs it has."""

from __future__ import annotations

import contextlib
import json
from typing import NamedTuple

from ..failure import GearvisorError
from ..gearvisor.admin import Admin
from ..gearvisor.errors import GearmanError
from ..host.files import read_bytes, read_text
from ..host.process import Process
from . import config, drain, start_record
from .sentinels import Sentinels, without

ADMIN_SECONDS = 5


class Current(NamedTuple):
    """The server that runs: its process, what it was started with, and its jobs.

    files: {path: text} of those that have changed since. jobs: {function: FunctionStatus} of the
    functions that have any; None, as admin is, when the server does not answer, and then problem
    is the reason. workers: {function: number} of those that are served. unclosable: the functions with
    jobs or workers that drain.Intake cannot close.
    """

    process: Process
    files: dict
    started: config.Running
    jobs: dict = None
    workers: dict = {}  # noqa: RUF012
    admin: Admin = None
    unclosable: tuple = ()
    problem: str = None


def inspect(host, process):
    """Return Current of the Process, or None when there is none."""
    if process is None:
        return None
    files = start_record.files_of(host, process)
    argv = process.argv()
    path = config.config_file_of(argv)
    ours = host.path(config.CONFIG)
    if path == ours and config.CONFIG in files:
        text = files[config.CONFIG]
    else:
        text = (_read(path) or b"").decode(errors="surrogateescape")
    current = Current(process, files, config.running_settings(argv, text))
    try:
        admin = Admin(current.started.address, ADMIN_SECONDS)
        status = admin.status()
        queued = [name for name, jobs in status.items() if jobs.queued]
        status = without(status, Sentinels(admin).count(queued) if queued else {})
    except (GearmanError, OSError, ValueError) as error:
        return current._replace(problem=str(error))
    used = {name: each for name, each in status.items() if each.queued or each.running}
    workers = {name: each.workers for name, each in status.items() if each.workers}
    return current._replace(
        admin=admin,
        jobs=used,
        workers=workers,
        unclosable=tuple(name for name in {**used, **workers} if not drain.is_closable(name)),
    )


def _read(path):
    with contextlib.suppress(OSError):
        return read_bytes(path)
    return None


def kept_limits(host):
    """Return {function: sizes}, the limits that are set again after each start.

    Raises GearvisorError when their file is damaged.
    """
    path = host.path(config.MAX_QUEUE)
    try:
        limits = json.loads(read_text(path) or "{}")
        if not isinstance(limits, dict):
            raise ValueError("it is not an object")
        for sizes in limits.values():
            if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
                raise ValueError("its values are not lists of numbers")
    except ValueError as error:
        raise GearvisorError(
            f"{config.MAX_QUEUE}, the limits of functions, is damaged: {error}. Remove it, and set the "
            "limits again with gearman_function"
        ) from None
    return limits
