# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the jobs of the synchronous worker, each within its time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Callable, Union

from .deadlines import Deadlines
from .jobs import Job, completed, failure, log
from .protocol import Packet, encode
from .recorder import Recorder
from .session import Assigned

SHORT_JOB = 0.005  # seconds

Function = Callable[[Job], Union[bytes, str, None]]


class JobRunner:
    """Calls functions, handles every way they end, and makes the final packet of each job.

    short_jobs: how many consecutive jobs, up to the last one, were done within SHORT_JOB seconds.
    ended_at: when the last one ended, on the monotonic clock.
    """

    def __init__(
        self, functions: Mapping[bytes, Function], recorder: Recorder, deadlines: Deadlines
    ) -> None:
        self._functions = functions
        self._recorder = recorder
        self._deadlines = deadlines
        self._pid = os.getpid()
        self.short_jobs = 0
        self.ended_at = 0.0

    def start(self) -> None:
        """The worker starts, perhaps in a process forked since."""
        self._pid = os.getpid()

    def perform(self, send: Callable[[bytes], None], assigned: Assigned) -> bytes:
        """Do a job and return its one final packet; send: what its function sends goes there."""
        handle, name, _unique, _data = assigned
        job = Job(send, *assigned)
        function = self._functions.get(name)
        if function is None:
            log.error(
                "job %s is for %s, which this worker does not serve", job.handle, job.function
            )
            return encode(Packet.WORK_FAIL, handle)
        self._recorder.start(job)
        started = time.monotonic()
        error: BaseException | None = None
        final = b""
        try:
            self._deadlines.start_job(started)
            try:
                result = function(job)
            finally:
                self._deadlines.end_job()
            final = completed(job, handle, result)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # exit() in a function must not end the worker
            error = raised
            self._deadlines.end_job()  # the alarm may have come before it took effect above
        job.over()
        if os.getpid() != self._pid:
            _leave_as_child(error)
        now = time.monotonic()
        short = error is None and now - started < SHORT_JOB
        self.short_jobs = self.short_jobs + 1 if short else 0
        self.ended_at = now
        if error is not None:
            self._deadlines.rest()  # a failed job may be written to a slow disk
            final = failure(handle, error)
        self._recorder.end(job, now - started, error)
        return final


def _leave_as_child(error: BaseException | None) -> None:
    """End a process that a function forked: the job, and the connection, are its parent's."""
    code = error.code if isinstance(error, SystemExit) else error
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
