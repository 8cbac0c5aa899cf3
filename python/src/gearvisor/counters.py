# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker has done since it started, for its own use and in a file for monitors."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

PUBLISH_EVERY = 1.0  # seconds between two writes of the file, at least


class Waits:
    """How long jobs waited from their submission to their start, in seconds, where it is known."""

    __slots__ = ("count", "last", "longest", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = self.longest = self.last = 0.0

    def add(self, seconds: float) -> None:
        """Count a job that starts."""
        self.count += 1
        self.seconds += seconds
        self.last = seconds
        if seconds > self.longest:
            self.longest = seconds

    def as_dict(self) -> dict[str, float]:
        """As the status file has it."""
        return {
            "count": self.count,
            "seconds": round(self.seconds, 3),
            "max": round(self.longest, 3),
            "last": round(self.last, 3),
        }


class Tally:
    """Jobs of one function, or of all: done, failed, the seconds they took together, waits."""

    __slots__ = ("done", "failed", "seconds", "waits")

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.seconds = 0.0
        self.waits = Waits()

    def as_dict(self) -> dict[str, Any]:
        """As the status file has it."""
        return {
            "done": self.done,
            "failed": self.failed,
            "seconds": round(self.seconds, 6),
            "waits": self.waits.as_dict(),
        }


class Counters:
    """The tallies of a worker, one for each of its functions."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.started = time.time()
        self.functions: dict[bytes, Tally] = {}
        self._last_wait = 0.0
        self.jobs = 0  # done and failed, of all functions

    @property
    def total(self) -> Tally:
        """The tallies of all functions together, as they are now."""
        total = Tally()
        for tally in self.functions.values():
            total.done += tally.done
            total.failed += tally.failed
            total.seconds += tally.seconds
            total.waits.count += tally.waits.count
            total.waits.seconds += tally.waits.seconds
            total.waits.longest = max(total.waits.longest, tally.waits.longest)
        total.waits.last = self._last_wait
        return total

    def add(self, function: bytes, seconds: float, failed: bool) -> None:
        """Count a job that is over."""
        tally = self.functions[function]
        self.jobs += 1
        if failed:
            tally.failed += 1
        else:
            tally.done += 1
        tally.seconds += seconds

    def waited(self, function: bytes, seconds: float) -> None:
        """Count the wait of a job that starts."""
        self._last_wait = seconds
        self.functions[function].waits.add(seconds)

    def snapshot(self, servers: Mapping[str, bool]) -> dict[str, Any]:
        """All of it as the status file has it; times are seconds since the epoch.

        servers: whether each job server is connected and answers.
        """
        return {
            "client_id": self.client_id,
            "pid": os.getpid(),
            "started": round(self.started, 3),
            "updated": round(time.time(), 3),
            **self.total.as_dict(),
            "functions": {
                name.decode(errors="replace"): tally.as_dict()
                for name, tally in self.functions.items()
            },
            "servers": dict(servers),
        }


def write_status_file(path: str, snapshot: Mapping[str, Any]) -> None:
    """Replace the file at once, so that a reader never sees half of it; raises OSError."""
    import json

    fresh = f"{path}.{os.getpid()}.tmp"
    try:
        with open(fresh, "w", encoding="utf-8") as file:
            json.dump(snapshot, file)
            file.write("\n")
        os.replace(fresh, path)
    except OSError:
        remove_status_file(fresh)
        raise


def remove_status_file(path: str) -> None:
    """Remove the file, if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        pass
