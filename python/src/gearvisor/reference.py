# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference functions: small, predictable jobs to try and to probe a worker fleet with."""

from __future__ import annotations

import math
import time

from .errors import JobFailed
from .jobs import Job

MAX_SLEEP = 3600.0  # seconds


def reverse(job: Job) -> bytes:
    """Return the payload's bytes in reverse order."""
    return job.data[::-1]


def echo(job: Job) -> bytes:
    """Return the payload."""
    return job.data


def sleep(job: Job) -> str:
    """Sleep the seconds the payload gives as text, an hour at most; return the seconds slept."""
    seconds = float(job.data)
    if seconds < 0 or math.isnan(seconds):
        raise ValueError(f"cannot sleep {seconds:g} seconds")
    seconds = min(seconds, MAX_SLEEP)
    time.sleep(seconds)
    return f"{seconds:g}"


def fail(job: Job) -> None:
    """Fail (WORK_FAIL), or raise an exception with the payload as its text if there is one."""
    if job.data:
        raise RuntimeError(job.data.decode(errors="replace"))
    raise JobFailed("asked to")


# What `gearvisor worker gearvisor.reference` serves. A PHP worker may serve the plain names too;
# reverse_python addresses a Python worker for certain.
FUNCTIONS = {
    "reverse": reverse,
    "reverse_python": reverse,
    "echo": echo,
    "sleep": sleep,
    "fail": fail,
}
