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


class Tally:
    """Jobs of one function, or of all: done, failed, and the seconds they took together."""

    __slots__ = ("done", "failed", "seconds")

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.seconds = 0.0

    def as_dict(self) -> dict[str, float]:
        """As the status file has it."""
        return {"done": self.done, "failed": self.failed, "seconds": round(self.seconds, 6)}


class Counters:
    """The tallies of a worker, one for each of its functions."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.started = time.time()
        self.functions: dict[bytes, Tally] = {}

    @property
    def total(self) -> Tally:
        """The tallies of all functions together, as they are now."""
        total = Tally()
        for tally in self.functions.values():
            total.done += tally.done
            total.failed += tally.failed
            total.seconds += tally.seconds
        return total

    def add(self, function: bytes, seconds: float, failed: bool) -> None:
        """Count a job that is over."""
        tally = self.functions[function]
        if failed:
            tally.failed += 1
        else:
            tally.done += 1
        tally.seconds += seconds

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
