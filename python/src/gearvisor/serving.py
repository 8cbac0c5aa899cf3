# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves the job servers of a synchronous worker, one at a time, in turns."""

from __future__ import annotations

import time
from collections import deque

from . import job_servers
from .deadlines import Deadlines
from .errors import ProtocolError, ServerUnavailable
from .housekeeping import Housekeeping
from .job_runner import JobRunner
from .job_servers import JobServer, JobServers, Lane, no_answer
from .jobs import log
from .session import Assigned, NoJob, State

TURN = 0.002  # seconds: jobs of a job server follow each other for so long, if others have any
STOP_TIMEOUT = 3.0  # seconds to wait for a job server's last answer when stopping
CHORES_EVERY = 0.25  # seconds: whether there are any is asked so often
SHORT_JOBS = 100  # so many consecutive ones before jobs are asked for ahead

_LONG = 2**16  # bytes of a final packet that a job server may need a while to take


class Serving:
    """Asks for jobs, has them done, and answers.

    prefetch: connections to a job server at most. stopping: once set, no further job is asked for.
    """

    def __init__(
        self,
        servers: JobServers,
        house: Housekeeping,
        runner: JobRunner,
        deadlines: Deadlines,
        prefetch: int,
    ) -> None:
        self.stopping = False
        self._servers = servers
        self._house = house
        self._runner = runner
        self._deadlines = deadlines
        self._prefetch = prefetch
        self._limited = bool(house.limits)
        self._chores_at = 0.0  # on the monotonic clock
        self._turn_ends = 0.0  # likewise, of the job server that is served

    def check_limits(self, under_way: int = 0) -> None:
        """Leave, if a limit is reached; under_way: jobs that are asked for already."""
        if not self._limited or self.stopping:
            return
        reason = self._house.reason_to_leave(under_way)
        if reason is not None:
            log.info("leaving: %s for one process reached", reason)
            self.stopping = True

    def chores(self, now: float) -> None:
        """Write the status file and look for pauses, if it is time to; now: monotonic."""
        if now < self._chores_at:
            return
        self._chores_at = now + CHORES_EVERY
        if not self._house.chores(now):
            return
        for server in self._servers:
            try:
                for lane in server.lanes:
                    data = lane.session.pause(self._house.pauses.functions)
                    if data:
                        lane.send(data)
            except ServerUnavailable as error:
                self._servers.lost(server, error)

    def serve(self, server: JobServer) -> None:
        """Do jobs of one job server, until it has none or it is another's turn."""
        self._turn_ends = time.monotonic() + TURN
        asked: deque[Lane] = deque()  # whose answers are due, in this order
        try:
            for lane in server.lanes:
                lane.send(lane.session.ask())
                asked.append(lane)
            while asked:
                lane = asked.popleft()
                job = self._assignment(server, lane)
                if job is None:
                    if lane is server.lane:
                        lane.sleep(time.monotonic())
                        self._runner.short_jobs = 0
                    continue
                final = self._runner.perform(lane.send_of_job, job)
                self.chores(self._runner.ended_at)
                data = lane.session.answer(final)
                self.check_limits(len(asked))
                more = not (self.stopping or self._others_turn(server))
                if len(data) > _LONG:
                    self._deadlines.rest()
                    lane.connection.stall = self._servers.patience(server)
                    lane.send(data)  # apart, so that it is not copied
                    data = b""
                if more and (lane is server.lane or self._runner.short_jobs >= SHORT_JOBS):
                    data += lane.session.ask()
                    asked.append(lane)
                if data:
                    lane.send(data)
                self._house.recorder.answered()
                if self._prefetch > 1:
                    self._look_ahead(server, more, asked)
            if not server.awake:
                self._servers.close_ahead(server, STOP_TIMEOUT)
        except (ServerUnavailable, ProtocolError) as error:
            self._house.recorder.answered()
            self._servers.lost(server, error)

    def _look_ahead(self, server: JobServer, more: bool, asked: deque[Lane]) -> None:
        """Start or stop to ask for jobs ahead; see docs/decisions/0013.

        Nothing is ever given back: a lane that is asked for a job, or has one, comes to its turn.
        """
        if self._runner.short_jobs < SHORT_JOBS:
            self._servers.close_ahead(server, STOP_TIMEOUT)
        elif more and not self._house.recorder.died:
            self._servers.open_ahead(server, self._prefetch - 1)
            for lane in server.ahead:
                if lane.session.state == State.READY:
                    lane.send(lane.session.ask())
                    asked.append(lane)

    def _others_turn(self, server: JobServer) -> bool:
        """Whether its turn is over and another may have a job, or is due to be connected to."""
        if len(self._servers) == 1:
            return False
        now = time.monotonic()
        if now < self._turn_ends:
            return False
        self._turn_ends = now + TURN
        self._servers.stir(now)
        self._servers.wait(0)
        return self._servers.are_due(now) or any(
            other.awake for other in self._servers.others_of(server)
        )

    def _assignment(self, server: JobServer, lane: Lane) -> Assigned | None:
        """Return the job that was asked for, or None: the job server has none."""
        waiting_since, missing = 0.0, 0
        while True:
            event = lane.receive(job_servers.POLL)
            if isinstance(event, (Assigned, NoJob)):
                if not server.answered:
                    self._answered(server)
                return event if isinstance(event, Assigned) else None
            now = time.monotonic()
            if event is None:
                self._deadlines.rest()
                self.chores(now)
            if not waiting_since or lane.session.missing != missing:  # some of a long packet came
                waiting_since, missing = now, lane.session.missing
            limit = STOP_TIMEOUT if self.stopping else self._servers.patience(server)
            if now - waiting_since > limit:
                raise no_answer(server.name, limit)

    def _answered(self, server: JobServer) -> None:
        """Note that a job server really is there: something else may have taken the connection."""
        server.answered = True
        server.retry_pause = job_servers.RETRY_FIRST
        if not server.up:
            log.info("serving %s as %s", server.name, self._house.counters.client_id)
            server.up = True
