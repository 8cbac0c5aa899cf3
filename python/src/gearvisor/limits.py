# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits after which a worker process leaves in order, to be started again.

One small object per limit: reached() names the limit, or returns None. None of them knows the
others, and each clock and reader of memory can be replaced. tests/unit/limits_cases.json has the
cases that the PHP worker's limits have to pass, too.
"""

from __future__ import annotations

import os
import random
import time
from typing import Callable, Protocol

MEMORY_CHECK = 0.25  # seconds between looks at the resident memory


class Limit(Protocol):
    """A reason to leave."""

    def reached(self, jobs: int) -> str | None:
        """Return the limit in words when it is reached; jobs: done and failed so far."""

    def seconds_left(self) -> float:
        """Return after how many seconds reached() must be asked in any case."""


class MaxJobs:
    """At most so many jobs."""

    def __init__(self, most: float) -> None:
        self.most = most

    def reached(self, jobs: int) -> str | None:
        return "the most jobs" if jobs >= self.most else None

    def seconds_left(self) -> float:
        return float("inf")


class MaxSeconds:
    """At most so many seconds from start() on."""

    def __init__(self, most: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._clock = clock
        self._ends = clock() + most

    def reached(self, jobs: int) -> str | None:
        return "the most seconds" if self._clock() >= self._ends else None

    def seconds_left(self) -> float:
        return self._ends - self._clock()


class MaxRss:
    """At most so much memory in RAM, MiB.

    Never before the first job: a process that is larger when it starts would be started over and
    over. `memory` may raise OSError: functions can leave no file descriptor for it.
    """

    def __init__(
        self,
        most: float,
        memory: Callable[[], float] | None = None,  # else resident()
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self._memory = memory or resident
        self._clock = clock
        self._next = 0.0

    def reached(self, jobs: int) -> str | None:
        now = self._clock()
        if not jobs or now < self._next:
            return None
        self._next = now + MEMORY_CHECK
        try:
            return "the most memory" if self._memory() >= self.most else None
        except OSError:
            return None

    def seconds_left(self) -> float:
        return float("inf")


def resident() -> float:
    """The memory of this process in RAM, in MiB (Linux: proc_pid_statm(5)); raises OSError."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Limits:
    """The limits of a process, each lowered by a random share of up to `splay` (0 to 1)."""

    def __init__(
        self,
        max_jobs: float | None = None,
        max_seconds: float | None = None,
        max_rss: float | None = None,
        splay: float = 0.0,
        share: Callable[[], float] = random.random,
    ) -> None:
        for name, limit in (
            ("max_jobs", max_jobs),
            ("max_seconds", max_seconds),
            ("max_rss", max_rss),
        ):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} {limit!r} is not above 0")
        if not 0 <= splay <= 1:
            raise ValueError(f"splay {splay!r} is not from 0 to 1")

        def lowered(limit: float | None) -> float | None:
            return None if limit is None else limit * (1 - splay * share())

        self.max_jobs, self.max_seconds, self.max_rss = map(
            lowered, (max_jobs, max_seconds, max_rss)
        )
        self._limits: list[Limit] = []

    def start(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Time runs from here."""
        if self.max_jobs is not None:
            self._limits.append(MaxJobs(self.max_jobs))
        if self.max_seconds is not None:
            self._limits.append(MaxSeconds(self.max_seconds, clock))
        if self.max_rss is not None:
            self._limits.append(MaxRss(self.max_rss, clock=clock))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(each is not None for each in (self.max_jobs, self.max_seconds, self.max_rss))

    def reached(self, jobs: int) -> str | None:
        """Return the first limit that is reached in words, or None."""
        for limit in self._limits:
            reason = limit.reached(jobs)
            if reason is not None:
                return reason
        return None

    def seconds_left(self) -> float:
        """Return after how many seconds reached() must be asked in any case."""
        return min((limit.seconds_left() for limit in self._limits), default=float("inf"))
