# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends jobs that take too long, and a worker that is asked to leave and does not come to it.

Three means, each for what the one before cannot reach:
- an exception raised in the function, by SIGALRM;
- a function that goes on nevertheless is ended with its process, by the next SIGALRM;
- one that sits in C code, where Python runs no signal handlers, is ended by a thread of
  faulthandler, which needs no interpreter. It writes a traceback and ends with exit code 1.
In the last two the job server hands the job to another worker.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from typing import Callable

from .errors import JobTimeLimit

GRACE = 5.0  # seconds a function has to end after JobTimeLimit was raised in it
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: left in the middle of a job
WATCH_EVERY = 1.0  # seconds; starting the thread for each job would cost more than a small job

WATCH_MARGIN = 5.0  # seconds; a worker waits 1 s for a job at a time, then calls rest()

NEVER = float("inf")


class Deadlines:
    """The deadlines of one worker process, in seconds; run() must be in its main thread.

    job_timeout: a job's time. stop_timeout: what is left for the running job after stop().
    Without either, nothing is done, and SIGALRM is left alone.
    """

    def __init__(self, job_timeout: float | None, stop_timeout: float | None) -> None:
        self._job_timeout = NEVER if job_timeout is None else job_timeout
        self._stop_timeout = NEVER if stop_timeout is None else stop_timeout
        self._installed = False
        self._raise_at = self._end_at = self._stop_at = NEVER
        self._unbroken = self._overdue = False
        self._watch_at = 0.0

    def install(self) -> None:
        """Take over SIGALRM. Raises ValueError outside of the main thread."""
        if self._job_timeout == self._stop_timeout == NEVER:
            return
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(
                "job_timeout and stop_timeout work by signals: call run() in the main thread, or"
                " leave them out"
            )
        signal.signal(signal.SIGALRM, self._on_alarm)
        self._installed = True

    def remove(self) -> None:
        """Give SIGALRM back."""
        if not self._installed:
            return
        self._installed = False
        self._raise_at = self._end_at = self._stop_at = NEVER
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.cancel_dump_traceback_later()

    def start_job(self, now: float) -> None:
        """A job starts at `now` (monotonic)."""
        if self._job_timeout != NEVER:
            self._raise_at = now + self._job_timeout
            self._end_at = self._raise_at + GRACE
            if self._stop_at != NEVER:
                return self._set_stop_alarm(now)
            signal.setitimer(signal.ITIMER_REAL, self._job_timeout, GRACE)
            if now >= self._watch_at:
                self._watch_at = now + WATCH_EVERY
                # A job that starts just before the next time has all of its own, too.
                limit = self._job_timeout + GRACE + WATCH_EVERY + WATCH_MARGIN
                faulthandler.dump_traceback_later(limit, exit=True, file=2)

    def end_job(self) -> None:
        """The job is over. Until here JobTimeLimit may be raised, after it no more."""
        self._raise_at = self._end_at = NEVER
        self._overdue = False
        if self._job_timeout != NEVER and self._stop_at == NEVER:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def rest(self) -> None:
        """No job runs: to be called before anything else that may take long."""
        if self._watch_at and self._stop_at == NEVER:
            self._watch_at = 0.0
            faulthandler.cancel_dump_traceback_later()

    def stop(self) -> None:
        """The worker was asked to leave: the running job has stop_timeout from now on."""
        if not self._installed or self._stop_timeout == NEVER or self._stop_at != NEVER:
            return
        now = time.monotonic()
        self._stop_at = now + self._stop_timeout
        self._set_stop_alarm(now)
        faulthandler.dump_traceback_later(self._stop_timeout + WATCH_EVERY, exit=True, file=2)

    def unbroken(self, send: Callable[[bytes], None], data: bytes) -> None:
        """Send data; JobTimeLimit is not raised in the middle of it, but afterwards."""
        self._unbroken = True
        try:
            send(data)
        finally:
            self._unbroken = False
        if self._overdue:
            self._overdue = False
            raise self._over_the_limit()

    def _set_stop_alarm(self, now: float) -> None:
        first = min(self._stop_at, self._raise_at)
        signal.setitimer(signal.ITIMER_REAL, max(first - now, 0.001), 0.1)

    def _over_the_limit(self) -> JobTimeLimit:
        return JobTimeLimit(f"over the limit of {self._job_timeout:g} s")

    def _on_alarm(self, _number: int, _frame: object) -> None:
        now = time.monotonic()
        if now >= self._stop_at:
            leave(f"stop timeout of {self._stop_timeout:g} s over in the middle of a job")
        if now >= self._end_at:
            leave(f"a job went on for {GRACE:g} s past the limit of {self._job_timeout:g} s")
        if now >= self._raise_at:
            self._raise_at = NEVER
            if self._unbroken:
                self._overdue = True
            else:
                raise self._over_the_limit()


def leave(why: str) -> None:
    """End the process at once, in the middle of a job."""
    # Not through logging, whose locks the interrupted code may hold.
    os.write(2, f"gearvisor: {why}; leaving, its job server will hand the job out again\n".encode())
    os._exit(EXIT_CODE)
