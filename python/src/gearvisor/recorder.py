# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker process shows of itself and keeps of its jobs: docs/worker-facts.md.

The status file with the counters and the job in progress, the log lines about jobs, and the
failed jobs. worker.py and aio.py report each job's start and end to it.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .counters import PUBLISH_EVERY, Counters
from .jobs import Job, log, log_failure, log_fields, outcome_of
from .limits import Limits, resident
from .unique_ids import LENGTH

if TYPE_CHECKING:
    from .failed_store import FailedStore
    from .status_writer import StatusFile


class Recorder:
    """Records of one worker process.

    status_file: where the status goes; None: nowhere. required: whether open() raises OSError when
    it cannot be written. store: where failed jobs are kept. log_jobs: log the start and the end of
    each job at level info.

    died: jobs in which the processes before this one died, since one left in order.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        status_file: str | None = None,
        required: bool = True,
        store: FailedStore | None = None,
        log_jobs: bool = False,
    ) -> None:
        self._counters = counters
        self._path = status_file
        self._required = required
        self._store = store
        self._file: StatusFile | None = None
        self._file_works = True
        self._publish_at = float("inf")
        self.died = 0
        self._log_jobs = log_jobs

    def open(
        self,
        limits: Limits,
        timeouts: Mapping[str, float | None],
        servers: Callable[[], dict[str, bool]],
        paused: Callable[[], frozenset[bytes]],
        lanes: int = 1,
    ) -> None:
        """Look what became of the process before this one, and write the status for the first time.

        timeouts: job_timeout and stop_timeout. servers: whether each is connected and answers.
        """
        self._servers, self._paused = servers, paused
        if self._path is None:
            return
        from .status_file import VERSION, pid_started
        from .status_writer import StatusFile

        self.died = _died_before(self._path)
        self._fixed = {
            "version": VERSION,
            "language": "python",
            **_names(os.environ),
            "pid_started": pid_started(os.getpid()),
            "limits": {
                "max_jobs": limits.max_jobs,
                "max_seconds": limits.max_seconds,
                "max_rss": limits.max_rss,
                **timeouts,
            },
        }
        self._file = StatusFile(self._path, list(self._counters.functions), lanes)
        self._publish_at = 0.0
        if self._required:
            self._file.write(self._snapshot())

    def close(self) -> None:
        """The worker leaves in order."""
        if self._file is not None:
            self._file.remove()

    # Jobs

    def start(self, job: Job, lane: int = 0) -> None:
        """Note a job before its function is called, so that it is known if that kills us."""
        if self._file is not None:
            now = time.time()
            function, unique, wait = job.raw_function, job.raw_unique, None
            # Most calls that a job costs are these: no other id shows a wait.
            if len(unique) == LENGTH:
                wait = job.waited(now)
                if wait is not None:
                    self._counters.waited(function, wait)
            self._file.start_job(function, job.raw_handle, unique, now, wait, lane)
        if self._log_jobs:
            log.info("job %s of %s, unique %s, starts", job.handle, job.function, job.unique,
                     extra=log_fields(job, None, "started"))  # fmt: skip

    def end(self, job: Job, seconds: float, error: BaseException | None) -> None:
        """Count a job that is over, and keep it if it failed, before its answer is sent.

        error: what it failed by. answered() has to follow.
        """
        self._counters.add(job.raw_function, seconds, error is not None)
        if error is not None:
            log_failure(job, error, seconds)
            if self._store is not None:
                self._keep(self._store, job, error, seconds)
        if self._log_jobs or (error is None and log.isEnabledFor(logging.DEBUG)):
            outcome = outcome_of(error)
            log.log(logging.INFO if self._log_jobs else logging.DEBUG,
                    "job %s of %s, unique %s, %s in %.3f s",
                    job.handle, job.function, job.unique, outcome, seconds,
                    extra=log_fields(job, seconds, outcome))  # fmt: skip

    def answered(self, lane: int = 0) -> None:
        """Note that no job is in progress: its answer was sent, and the job server is at work."""
        if self._file is not None:
            self._file.end_job(lane)

    def _keep(self, store: FailedStore, job: Job, error: BaseException, seconds: float) -> None:
        """Keep a failed job; when it cannot be kept its failure is reported all the same."""
        from . import failed
        from .jobs import text_of, traceback_of

        now = time.time()
        attempt = failed.attempt_of(
            unique=job.raw_unique,
            handle=job.raw_handle,
            outcome=outcome_of(error),
            error=text_of(error),
            traceback=traceback_of(error),
            started=now - seconds,
            failed=now,
            worker=self._counters.client_id,
            release=os.environ.get("GEARVISOR_RELEASE") or None,
        )
        try:
            store.add(job.function, job.data, attempt)
        except (OSError, ValueError) as problem:
            log.error("job %s of %s: the failed job cannot be kept in %s: %s",
                      job.handle, job.function, store.directory, problem,
                      extra=log_fields(job, seconds, outcome_of(error)))  # fmt: skip

    # The status file

    def publish(self, now: float) -> None:
        """Write the status file, if it is time to; now: monotonic."""
        if now < self._publish_at or self._file is None:
            return
        try:
            self._file.write(self._snapshot())
        except OSError as error:
            if self._file_works:
                log.warning("cannot write the status file, trying on: %s", error)
            self._file_works = False
        else:
            self._file_works = True
        self._publish_at = now + PUBLISH_EVERY

    def _snapshot(self) -> dict[str, Any]:
        store = self._store
        try:
            rss: float | None = round(resident(), 1)
        except OSError:  # a function has left no file descriptor for it
            rss = None
        return {
            **self._fixed,
            **self._counters.snapshot(self._servers()),
            "died": self.died,
            "paused": sorted(each.decode(errors="replace") for each in self._paused()),
            "rss": rss,
            "failed_jobs": {
                "kept": store.kept if store else 0,
                "dropped": store.dropped if store else 0,
                "unwritten": store.unwritten if store else 0,
            },
        }


def _names(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return program, process and release, as Supervisor and the roles set them."""
    process = environment.get("GEARVISOR_WORKER", "").partition("/")[2]
    process = process or environment.get("SUPERVISOR_PROCESS_NAME", "")
    program = environment.get("SUPERVISOR_GROUP_NAME", "")
    if program == process:  # one section per process: the name ends with its number
        program = re.sub(r"_\d+$", "", program)
    return {
        "program": program or None,
        "process": process or None,
        "release": environment.get("GEARVISOR_RELEASE") or None,
    }


def _died_before(path: str) -> int:
    """Log the jobs in which the process before this one died; return how many since a clean end."""
    from .status_file import StatusFileError, is_alive, read, running

    try:
        status = read(path)
    except StatusFileError:
        return 0
    if is_alive(status):
        if status["pid"] != os.getpid():
            log.warning("process %d writes the status file %s, too", status["pid"], path)
        return 0
    jobs = running(status)
    for job in jobs:
        fields = {each: job[each] for each in ("function", "handle", "unique")}
        log.error("process %d died in job %s of function %s, unique %s",
                  status["pid"], job["handle"], job["function"], job["unique"],
                  extra={**fields, "outcome": "died"})  # fmt: skip
    died: int = status["died"]
    return died + len(jobs)
