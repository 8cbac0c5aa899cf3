# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both workers do beside jobs: limits, counters, status file, pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .counters import Counters, Tally
from .jobs import log
from .limits import Limits
from .pause_watch import PauseWatch
from .recorder import Recorder

if TYPE_CHECKING:
    from .failed_store import FailedStore


class Housekeeping:
    """The state of a worker process that does not depend on how it waits.

    The options are those of gearvisor.worker.Worker; raises ValueError for what they cannot be.
    """

    def __init__(
        self,
        client_id: str,
        limits: Limits,
        *,
        job_timeout: float | None,
        stop_timeout: float | None,
        status_file: str | None,
        status_file_required: bool,
        failed_store: FailedStore | None,
        paused_dir: str | None,
        log_jobs: bool,
    ) -> None:
        for name, limit in (("job_timeout", job_timeout), ("stop_timeout", stop_timeout)):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} {limit!r} is not above 0")
        self.counters = Counters(client_id)
        self.limits = limits
        self.recorder = Recorder(
            self.counters,
            status_file=status_file,
            required=status_file_required,
            store=failed_store,
            log_jobs=log_jobs,
        )
        self._timeouts = {"job_timeout": job_timeout, "stop_timeout": stop_timeout}
        self._paused_dir = paused_dir
        self.pauses = PauseWatch(None, ())

    def register(self, function: bytes) -> None:
        """Count jobs of a function, too."""
        self.counters.functions[function] = Tally()

    def start(self, now: float, servers: Callable[[], dict[str, bool]], lanes: int = 1) -> None:
        """The worker starts; servers: whether each is connected and answers. Raises OSError."""
        self.pauses = PauseWatch(self._paused_dir, self.counters.functions)
        self.pauses.changed(now)
        self.limits.start()
        self.recorder.open(
            self.limits, self._timeouts, servers, lambda: self.pauses.functions, lanes
        )

    def chores(self, now: float) -> bool:
        """Write the status file and look for pauses, each about once a second.

        Returns whether other functions are paused than before.
        """
        changed = self.pauses.changed(now)
        if changed:
            paused = sorted(each.decode(errors="replace") for each in self.pauses.functions)
            log.info("paused functions: %s", ", ".join(paused) or "none")
        self.recorder.publish(now)
        return changed

    def reason_to_leave(self, under_way: int = 0) -> str | None:
        """Return the limit that is reached, in words; under_way: jobs that cannot be refused."""
        return self.limits.reached(self.counters.jobs + under_way)

    def stop(self) -> None:
        """The worker leaves in order."""
        self.recorder.close()
        total = self.counters.total
        log.info("stopped: %d jobs done, %d failed", total.done, total.failed)
