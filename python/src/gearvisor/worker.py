# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve functions to one or several job servers, one job at a time.

session.py has the conversation with a job server; this module adds sockets, poll() and time.

Facts the design rests on:
- gearmand 1.1 does not wake sleeping workers for jobs that become due (SUBMIT_JOB_EPOCH): so a
  sleeping worker asks again each second.
- A timeout given to the job server (CAN_DO_TIMEOUT) makes gearmand 1.1 queue the job again
  rather than fail it: so it is never used.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable, Union

from . import job_servers, limits
from .connection import parse_servers
from .deadlines import Deadlines
from .errors import ProtocolError, ServerUnavailable
from .housekeeping import Housekeeping
from .job_servers import JobServer, JobServers, Lane
from .jobs import Job as Job  # which belongs to this module's interface
from .jobs import completed, failure, is_async_callable, log
from .protocol import (
    MAX_CLIENT_ID,
    MAX_PACKET,
    Packet,
    check_client_id,
    check_function,
    encode,
)
from .session import Assigned, NoJob, Session, State

if TYPE_CHECKING:
    import ssl

    from .failed_store import FailedStore

TURN = 0.002  # seconds: jobs of a job server follow each other for so long, if others have any
STOP_TIMEOUT = 3.0  # seconds to wait for a job server's last answer when stopping
CHORES_EVERY = 0.25  # seconds: whether there are any is asked so often

# They belong to this module's interface.
POLL = job_servers.POLL
CONNECT_TIMEOUT = job_servers.CONNECT_TIMEOUT
CONNECT_TIMEOUT_BUSY = job_servers.CONNECT_TIMEOUT_BUSY
ANSWER_TIMEOUT = job_servers.ANSWER_TIMEOUT
ANSWER_TIMEOUT_BUSY = job_servers.ANSWER_TIMEOUT_BUSY
RETRY_FIRST, RETRY_MOST = job_servers.RETRY_FIRST, job_servers.RETRY_MOST
MEMORY_CHECK = limits.MEMORY_CHECK

SHORT_JOB = 0.005  # seconds: after a longer job a worker asks for no job ahead
SHORT_JOBS = 100  # so many in a row before it does

_LONG = 2**16  # bytes of a final packet that a job server may need a while to take

Function = Callable[[Job], Union[bytes, str, None]]


class Worker:
    """Serves functions to job servers ("host:port" each): register() them, then run().

    client_id: shown by the admin command `workers`; see default_client_id.
    max_jobs, max_seconds, max_rss (MiB): run() returns once one of them is reached, so that the
    process can be replaced; each is lowered by a random share of up to `splay` (0 to 1), so that
    a fleet does not do it all at once. max_rss counts after the first job.
    job_timeout: seconds after which JobTimeLimit is raised in a function; the client gets it as
    an exception. A function that does not end within deadlines.GRACE seconds of it is ended with
    its process. stop_timeout: seconds the running job has left after stop(), before the process
    leaves without it. Both use SIGALRM, so run() must then be in the main thread.
    status_file: where run() keeps what docs/worker-facts.md describes; it raises OSError when it
    cannot be written at the start, unless status_file_required is false.
    failed_store: keeps the jobs that fail. paused_dir: pauses the functions that files in it name.
    log_jobs: log the start and the end of each job at level info.
    prefetch: connections to a job server by which jobs are asked for while another one is done,
    see docs/decisions/0013; more than one needs job_timeout.
    max_packet: bytes of the largest packet that is taken from a job server.

    counters: the jobs done and failed since the Worker was made.
    """

    def __init__(
        self,
        servers: Sequence[str],
        client_id: str | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        max_jobs: int | None = None,
        max_seconds: float | None = None,
        max_rss: float | None = None,
        splay: float = 0.1,
        job_timeout: float | None = None,
        stop_timeout: float | None = None,
        status_file: str | None = None,
        status_file_required: bool = True,
        failed_store: FailedStore | None = None,
        paused_dir: str | None = None,
        log_jobs: bool = False,
        prefetch: int = 1,
        max_packet: int = MAX_PACKET,
    ) -> None:
        self.client_id = client_id or default_client_id()
        self._client_id = check_client_id(self.client_id)
        self._house = Housekeeping(
            self.client_id,
            limits.Limits(max_jobs, max_seconds, max_rss, splay),
            job_timeout=job_timeout,
            stop_timeout=stop_timeout,
            status_file=status_file,
            status_file_required=status_file_required,
            failed_store=failed_store,
            paused_dir=paused_dir,
            log_jobs=log_jobs,
        )
        if prefetch < 1:
            raise ValueError(f"prefetch {prefetch!r} is not at least 1")
        if prefetch > 1 and job_timeout is None:
            raise ValueError(
                f"prefetch {prefetch!r} needs job_timeout: a job that was asked for ahead waits for"
                " the one before it"
            )
        self.counters = self._house.counters
        self._functions: dict[bytes, Function] = {}
        self._max_packet = max_packet
        self._prefetch = prefetch
        self._limited = bool(self._house.limits)
        self._deadlines = Deadlines(job_timeout, stop_timeout)
        self._servers = JobServers(
            parse_servers(servers), ssl_context, self._new_session, self._deadlines.unbroken
        )
        self._pid = os.getpid()
        self._chores_at = 0.0  # on the monotonic clock
        self._turn_ends = 0.0  # likewise, of the job server that is served
        self._short_jobs = 0  # in a row
        self._stopping = False

    def register(self, name: str, function: Function) -> None:
        """Serve `function` under `name`; to be called before run().

        It gets a Job and returns the result: bytes, str (sent as UTF-8) or None (empty). It
        raises JobFailed to fail the job; any other exception goes to the client as text.
        """
        encoded = check_function(name)
        if encoded in self._functions:
            raise ValueError(f"function {name!r} is registered already")
        if is_async_callable(function):
            raise ValueError(f"function {name!r} is async; serve it with gearvisor.aio.Worker")
        self._functions[encoded] = function
        self._house.register(encoded)

    def stop(self) -> None:
        """Make run() return after the running job. Safe in threads and signal handlers."""
        self._stopping = True
        self._deadlines.stop()
        self._servers.wake_up()

    def run(self, handle_signals: bool = False) -> None:
        """Serve until stop() or a limit, once. Lost job servers are tried again for ever.

        handle_signals: SIGTERM and SIGINT call stop(); a second one ends the process at once.
        """
        if not self._functions:
            raise ValueError("no function is registered; call register() first")
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
        self._pid = os.getpid()
        self._deadlines.install()
        try:
            self._house.start(time.monotonic(), self._answering)
            while not self._stopping:
                self._connect_missing()
                server = self._servers.next_awake()
                if server is None:
                    self._sleep()
                else:
                    self._serve(server)
                self._check_limits()
        finally:
            self._deadlines.remove()
            self._servers.close(STOP_TIMEOUT)
            self._house.stop()

    def _on_signal(self, _number: int, _frame: object) -> None:
        # The kernel ends the process at the second one, even in C code of a function.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)
        self.stop()

    def _new_session(self) -> Session:
        paused = self._house.pauses.functions
        return Session(self._client_id, self._functions, paused, self._max_packet)

    def _answering(self) -> dict[str, bool]:
        return {each.name: each.answered for each in self._servers}

    def _check_limits(self, under_way: int = 0) -> None:
        """Leave, if a limit is reached; under_way: jobs that are asked for already."""
        if not self._limited or self._stopping:
            return
        reason = self._house.reason_to_leave(under_way)
        if reason is not None:
            log.info("leaving: %s for one process reached", reason)
            self._stopping = True

    def _chores(self, now: float) -> None:
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

    def _connect_missing(self) -> None:
        """Connect to each job server that is away and whose time to try again has come."""
        for server in self._servers:
            if server.lane is None and server.retry_at <= time.monotonic() and not self._stopping:
                self._deadlines.rest()
                self._servers.connect(server)

    def _sleep(self) -> None:
        """Wait for a NOOP, until something is to be done unbidden."""
        now = time.monotonic()
        self._chores(now)
        self._deadlines.rest()
        self._servers.stir(now)
        timeout = self._servers.patience_of_sleep(now)
        if self._limited:
            timeout = max(0.0, min(timeout, self._house.limits.seconds_left()))
        self._servers.wait(timeout)

    # Jobs

    def _serve(self, server: JobServer) -> None:
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
                        self._short_jobs = 0
                    continue
                data = lane.session.answer(self._perform(lane, job))
                self._check_limits(len(asked))
                more = not (self._stopping or self._others_turn(server))
                if len(data) > _LONG:
                    self._deadlines.rest()
                    lane.connection.stall = self._servers.patience(server)
                    lane.send(data)  # apart, so that it is not copied
                    data = b""
                if more and (lane is server.lane or self._short_jobs >= SHORT_JOBS):
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
        if self._short_jobs < SHORT_JOBS:
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
            if type(event) is Assigned or type(event) is NoJob:
                if not server.answered:
                    self._answered(server)
                return event if type(event) is Assigned else None
            now = time.monotonic()
            if event is None:
                self._deadlines.rest()
                self._chores(now)
            if not waiting_since or lane.session.missing != missing:  # some of a long packet came
                waiting_since, missing = now, lane.session.missing
            limit = STOP_TIMEOUT if self._stopping else self._servers.patience(server)
            if now - waiting_since > limit:
                raise no_answer(server.name, limit)

    def _answered(self, server: JobServer) -> None:
        """Note that a job server really is there: something else may have taken the connection."""
        server.answered = True
        server.retry_pause = RETRY_FIRST
        if not server.up:
            log.info("serving %s as %s", server.name, self.client_id)
            server.up = True

    def _perform(self, lane: Lane, assigned: Assigned) -> bytes:
        """Do a job and return its one final packet."""
        handle, name, _unique, _data = assigned
        job = Job(lane.send_of_job, *assigned)
        function = self._functions.get(name)
        if function is None:
            log.error("job %s is for %s, which this worker has not", job.handle, job.function)
            return encode(Packet.WORK_FAIL, handle)
        self._house.recorder.start(job)
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
        self._short_jobs = self._short_jobs + 1 if short else 0
        if error is not None:
            self._deadlines.rest()  # a failed job may be written to a slow disk
            final = failure(handle, error)
        self._house.recorder.end(job, now - started, error)
        self._chores(now)
        return final


def default_client_id() -> str:
    """The id of a worker that was given none.

    "$GEARVISOR_WORKER#PID" where the variable is set, as the roles do (HOST/PROCESS), else
    "gearvisor-HOST-PID". No blanks, and no longer than a job server takes.
    """
    worker = os.environ.get("GEARVISOR_WORKER", "")
    text = worker or f"gearvisor-{socket.gethostname()}"
    pid = f"#{os.getpid()}" if worker else f"-{os.getpid()}"
    name = "".join(each if each.isprintable() and not each.isspace() else "_" for each in text)
    return name.encode()[: MAX_CLIENT_ID - len(pid)].decode(errors="ignore") + pid


def no_answer(server: str, seconds: float) -> ServerUnavailable:
    """The error of a job server that does not answer."""
    return job_servers.no_answer(server, seconds)


def unasked(server: str, kind: Packet, arguments: list[bytes]) -> None:
    """Take what a job server may send at any time; raises ProtocolError for all else.

    Workers use session.Session instead; this stays for those who built on it.
    """
    if kind == Packet.ERROR:
        text = b" ".join(arguments).decode(errors="replace")
        log.warning("%s replied with an error: %s", server, text)
    elif kind not in (Packet.NOOP, Packet.ECHO_RES):
        raise ProtocolError(f"{server}: a worker does not expect {kind.name}")


def _leave_as_child(error: BaseException | None) -> None:
    """End a process that a function forked: the job, and the connection, are its parent's."""
    code = error.code if isinstance(error, SystemExit) else error
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
