# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `gearvisor worker` serves for the clients of others: see table.py."""

from __future__ import annotations

import time

from gearvisor.errors import JobFailed
from gearvisor.jobs import Job


def echo(job: Job) -> bytes:
    return job.data


def unique(job: Job) -> str:
    return job.unique


def fail(job: Job) -> bytes:
    raise JobFailed("asked to")


def raise_(job: Job) -> bytes:
    raise ValueError("raised")


def progress(job: Job) -> bytes:
    job.send_status(1, 2)
    job.send_warning(b"careful")
    job.send_data(b"part \0\xff")
    job.send_status(2, 2)
    return b"end"


def slow(job: Job) -> bytes:
    job.send_status(1, 2)
    time.sleep(0.7)
    return b""


FUNCTIONS = {
    "python-echo": echo,
    "python-größe": echo,
    "python-unique": unique,
    "python-fail": fail,
    "python-raise": raise_,
    "python-progress": progress,
    "python-slow": slow,
}
