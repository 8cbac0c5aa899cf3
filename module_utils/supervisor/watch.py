# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether new code does its jobs: the first batch of a rollout, by its workers' counters.

The counters are those of the status files (docs/worker-facts.md). All pure.
"""

from __future__ import annotations

from typing import NamedTuple

# Jobs that the former rate must predict before none at all counts as hung.
_JOBS_OF_A_HUNG_BATCH = 5


class Settings(NamedTuple):
    """*seconds* or *jobs*, the earlier, end the watch; 0 seconds: no watch.

    *max_failures*: the share of failed jobs (0 to 1) above that of the time before. With fewer
    than *min_jobs* jobs nothing is proved.
    """

    seconds: float = 0
    jobs: int = 20
    max_failures: float = 0.2
    min_jobs: int = 5


class Before(NamedTuple):
    """The program before the rollout: the share of failed jobs, jobs a second of each process.

    *oversized*: whether a process of it was above its memory limit before it had done a job.
    """

    failures: float = 0.0
    rate: float = 0.0
    oversized: bool = False


class Verdict(NamedTuple):
    """How a watch ended. *problem* is a sentence when the rollout must stop."""

    jobs: int
    failed: int
    proved: bool
    problem: str = ""


def before(statuses):
    """Return the Before of the status files (dicts) of a program's processes."""
    jobs = sum(status["done"] + status["failed"] for status in statuses)
    failed = sum(status["failed"] for status in statuses)
    lived = sum(max(0, status["updated"] - status["started"]) for status in statuses)
    return Before(
        failed / jobs if jobs else 0.0,
        jobs / lived if lived > 0 else 0.0,
        any(oversized(status) for status in statuses),
    )


def oversized(status):
    """Return whether a process has more memory than its limit from its start: it leaves after each job."""
    limit = status["limits"]["max_rss"]
    early = status["done"] + status["failed"] <= 1
    return early and limit is not None and (status["rss"] or 0) > limit


class Tally:
    """Counts the jobs of processes whose counters begin again when they are restarted."""

    def __init__(self, from_zero):
        """*from_zero*: count what a process had done when it was first seen, too."""
        self._from_zero = from_zero
        self._last = {}
        self.jobs = 0
        self.failed = 0
        self.died = 0

    def add(self, process, status):
        """Count what the status of this process has more than the last one."""
        now = status["pid"], status["done"], status["failed"], status["died"]
        last = self._last.get(process)
        if last is None:
            last = (now[0], 0, 0, now[3]) if self._from_zero else now
        if last[0] != now[0]:
            last = (now[0], 0, 0, last[3])
        self.jobs += max(0, now[1] - last[1]) + max(0, now[2] - last[2])
        self.failed += max(0, now[2] - last[2])
        self.died += max(0, now[3] - last[3])
        self._last[process] = now


class Watch:
    """The watch over one batch."""

    def __init__(self, settings, earlier, batch, peers):
        """*earlier* is a Before; *batch* and *peers* count the new and the still old processes."""
        self._settings = settings
        self._before = earlier
        self._batch = batch
        self._peers = peers
        self.new = Tally(from_zero=True)
        self.old = Tally(from_zero=False)
        self._oversized = None

    def add(self, process, status):
        """Take in the status of a process of the batch."""
        self.new.add(process, status)
        if oversized(status):
            self._oversized = status

    def verdict(self, seconds, busy):
        """Return the Verdict, or None while it is open.

        *seconds* have passed; *busy*: whether a process of the batch is in a job.
        """
        settings, jobs, failed = self._settings, self.new.jobs, self.new.failed
        limit = self._before.failures + settings.max_failures
        if self.new.died:
            return Verdict(jobs, failed, False, "a process died in its job")
        if self._oversized and not self._before.oversized:
            return Verdict(
                jobs,
                failed,
                False,
                f"a process uses {self._oversized['rss']:.0f} MiB from its start, more than its limit of "
                f"{self._oversized['limits']['max_rss']:.0f} MiB, so it leaves after each job",
            )
        # More than the whole watch may have, or too many of those that it had.
        ends = jobs >= settings.jobs or seconds >= settings.seconds
        enough = jobs >= settings.min_jobs
        if (failed > limit * settings.jobs and enough) or (
            ends and enough and failed > limit * jobs
        ):
            return Verdict(
                jobs,
                failed,
                False,
                f"{failed} of {jobs} jobs failed; before, it was a share of {self._before.failures:.0%}, and "
                f"max_failures allows {settings.max_failures:.0%} more",
            )
        if not ends:
            return None
        if jobs == 0 and self._predicted(seconds, busy) >= _JOBS_OF_A_HUNG_BATCH:
            return Verdict(
                jobs,
                failed,
                False,
                f"no job was finished in {seconds:.0f} s, and the processes before had finished about "
                f"{self._predicted(seconds, busy):.0f}",
            )
        return Verdict(jobs, failed, enough)

    def _predicted(self, seconds, busy):
        """Return how many jobs the batch should have finished.

        By what the old processes did meanwhile; without any, by the rate before, if there are
        jobs at all, which one in progress shows.
        """
        if self._peers:
            return self.old.jobs / self._peers * self._batch
        return self._before.rate * seconds * self._batch if busy else 0
