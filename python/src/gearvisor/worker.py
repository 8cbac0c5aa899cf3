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
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import job_runner, job_servers, jobs, limits, serving
from .connection import parse_servers
from .deadlines import Deadlines
from .errors import ProtocolError, ServerUnavailable
from .housekeeping import Housekeeping
from .job_runner import JobRunner
from .job_servers import JobServers
from .jobs import is_async_callable, log
from .protocol import MAX_CLIENT_ID, MAX_PACKET, Packet, check_client_id, check_function
from .serving import Serving
from .session import Session

if TYPE_CHECKING:
    import ssl

    from .failed_store import FailedStore

# They belong to this module's interface.
TURN = serving.TURN
STOP_TIMEOUT = serving.STOP_TIMEOUT
POLL = job_servers.POLL
CONNECT_TIMEOUT = job_servers.CONNECT_TIMEOUT
CONNECT_TIMEOUT_BUSY = job_servers.CONNECT_TIMEOUT_BUSY
ANSWER_TIMEOUT = job_servers.ANSWER_TIMEOUT
ANSWER_TIMEOUT_BUSY = job_servers.ANSWER_TIMEOUT_BUSY
RETRY_FIRST, RETRY_MOST = job_servers.RETRY_FIRST, job_servers.RETRY_MOST
MEMORY_CHECK = limits.MEMORY_CHECK
Function = job_runner.Function
Job = jobs.Job


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
        self._deadlines = Deadlines(job_timeout, stop_timeout)
        self._servers = JobServers(
            parse_servers(servers), ssl_context, self._new_session, self._deadlines.unbroken
        )
        self._runner = JobRunner(self._functions, self._house.recorder, self._deadlines)
        self._serving = Serving(self._servers, self._house, self._runner, self._deadlines, prefetch)

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
        self._serving.stopping = True
        self._deadlines.stop()
        self._servers.wake_up()

    def run(self, handle_signals: bool = False) -> None:
        """Serve until stop() or a limit, once. Lost job servers are tried again without limit.

        handle_signals: SIGTERM and SIGINT call stop(); a second one ends the process at once.
        """
        if not self._functions:
            raise ValueError("no function is registered; call register() first")
        if handle_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
        self._runner.start()
        self._deadlines.install()
        try:
            self._house.start(time.monotonic(), self._answering)
            while not self._serving.stopping:
                self._connect_missing()
                server = self._servers.next_awake()
                if server is None:
                    self._sleep()
                else:
                    self._serving.serve(server)
                self._serving.check_limits()
        finally:
            self._deadlines.remove()
            self._servers.close(serving.STOP_TIMEOUT)
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

    def _connect_missing(self) -> None:
        """Connect to each job server that is away and whose time to try again has come."""
        for server in self._servers:
            if (
                server.lane is None
                and server.retry_at <= time.monotonic()
                and not self._serving.stopping
            ):
                self._deadlines.rest()
                self._servers.connect(server)

    def _sleep(self) -> None:
        """Wait for a NOOP, until something is to be done unbidden."""
        now = time.monotonic()
        self._serving.chores(now)
        self._deadlines.rest()
        self._servers.stir(now)
        timeout = self._servers.patience_of_sleep(now)
        self._servers.wait(max(0.0, min(timeout, self._house.limits.seconds_left())))


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
