# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve functions to one or several job servers, one job at a time.

The packets are those of gearmand's PROTOCOL document; the loop on each connection is: GRAB_JOB,
then either a job, its result and GRAB_JOB again (both in one write: half the round trips), or
NO_JOB and PRE_SLEEP until the job server says NOOP.

Facts the design rests on:
- A job that was assigned to a lost connection is given away again by its job server at once, and
  handles start at 1 again when a job server restarts. So a result goes to the connection its job
  came from or nowhere.
- gearmand 1.1 does not wake sleeping workers for jobs that become due (SUBMIT_JOB_EPOCH): so a
  sleeping worker asks again each second.
- Who has asked a job server for a job must wait for its answer before it asks another. So that one
  that hangs does not hold up the others, it has to answer an ECHO_REQ first, while nobody waits.
- gearmand answers a second final packet with an ERROR that can arrive at any time: so there is
  exactly one, and an ERROR is logged wherever it comes.
- A timeout given to the job server (CAN_DO_TIMEOUT) makes gearmand 1.1 queue the job again
  rather than fail it: so it is never used.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Union

from .connection import Connection, format_server, parse_servers
from .counters import PUBLISH_EVERY, Counters, Tally, remove_status_file, write_status_file
from .deadlines import NEVER, Deadlines
from .errors import GearmanError, ProtocolError, ServerUnavailable
from .jobs import Job as Job  # which belongs to this module's interface
from .jobs import completed, failed, is_async, log, log_fields
from .protocol import Packet, check_client_id, check_function, encode

if TYPE_CHECKING:
    import ssl

TURN = 0.002  # seconds: jobs of a job server follow each other for so long, if others have any
POLL = 1.0  # seconds a worker sleeps at most before it asks for a job unbidden
CONNECT_TIMEOUT = 3.0  # seconds, while no other job server is connected
CONNECT_TIMEOUT_BUSY = 0.5  # seconds, while one is
ANSWER_TIMEOUT = 30.0  # seconds without an answer after which a job server counts as hung
ANSWER_TIMEOUT_BUSY = 5.0  # seconds, for the one asked for a job while another is connected
STOP_TIMEOUT = 3.0  # seconds to wait for a job server's last answer when stopping
RETRY_FIRST, RETRY_MOST = 0.1, 5.0  # seconds between attempts to connect, doubling
MEMORY_CHECK = 0.25  # seconds between looks at the resident memory

_LONG = 2**16  # bytes of a final packet that a job server may need a while to take

_GRAB = encode(Packet.GRAB_JOB_UNIQ)
_PRE_SLEEP = encode(Packet.PRE_SLEEP)
_ECHO = encode(Packet.ECHO_REQ, b"gearvisor")

Function = Callable[[Job], Union[bytes, str, None]]


class _Server:
    """A job server as the worker knows it."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.name = format_server(host, port)
        self.connection: Connection | None = None
        self.number = -1  # the file descriptor of the connection, once it is watched
        self.send: Callable[[bytes], None]  # what a job sends on the connection
        self.awake = False  # it may have a job for us; false after NO_JOB
        self.asked_at = 0.0  # when it last had no job
        self.answered = False  # on this connection
        self.echo_at = NEVER  # when the ECHO_REQ was sent that it has not answered yet
        self.up: bool | None = None  # as last logged
        self.unconfirmed: bytes | None = None  # handle of the job whose result was sent last
        self.retry_at = 0.0  # on the monotonic clock
        self.retry_pause = RETRY_FIRST


class Worker:
    """Serves functions to job servers ("host:port" each): register() them, then run().

    client_id: shown by the admin command `workers`; "gearvisor-HOST-PID" by default.
    max_jobs, max_seconds, max_rss (MiB): run() returns once one of them is reached, so that the
    process can be replaced; each is lowered by a random share of up to `splay` (0 to 1), so that
    a fleet does not do it all at once.
    job_timeout: seconds after which JobTimeLimit is raised in a function; the client gets it as
    an exception. A function that does not end within deadlines.GRACE seconds of it is ended with
    its process. stop_timeout: seconds the running job has left after stop(), before the process
    leaves without it. Both use SIGALRM, so run() must then be in the main thread.
    status_file: where run() keeps the counters as JSON for monitors, see Counters.snapshot();
    raises OSError when it cannot be written at the start.

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
    ) -> None:
        for name, limit in (
            ("max_jobs", max_jobs),
            ("max_seconds", max_seconds),
            ("max_rss", max_rss),
            ("job_timeout", job_timeout),
            ("stop_timeout", stop_timeout),
        ):
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} {limit!r} is not above 0")
        if not 0 <= splay <= 1:
            raise ValueError(f"splay {splay!r} is not from 0 to 1")
        client_id = client_id or default_client_id()
        self.client_id = client_id
        self.counters = Counters(client_id)
        self._hello = [encode(Packet.SET_CLIENT_ID, check_client_id(client_id))]
        self._servers = [_Server(*address) for address in parse_servers(servers)]
        random.shuffle(self._servers)  # so that a fleet does not favour the first one
        self._functions: dict[bytes, Function] = {}
        self._ssl_context = ssl_context
        self._limited = any(limit is not None for limit in (max_jobs, max_seconds, max_rss))
        self._max_jobs, self._max_seconds, self._max_rss = (
            NEVER if limit is None else limit * (1 - splay * random.random())
            for limit in (max_jobs, max_seconds, max_rss)
        )
        self._memory_check_at = 0.0
        self._deadlines = Deadlines(job_timeout, stop_timeout)
        self._status_file = status_file
        self._publish_at = NEVER
        self._publishes = True
        self._pid = os.getpid()
        self._turn_ends = 0.0  # on the monotonic clock, of the job server that is served
        self._streak = 0  # jobs since a job server last had none
        self._stopping = False
        # A byte sent here ends the sleep of run(), also from a signal handler or a thread.
        self._alarm, self._wakeup = socket.socketpair()
        self._alarm.setblocking(False)
        self._wakeup.setblocking(False)
        self._poll = select.poll()  # for the alarm and all connections
        self._poll.register(self._alarm, select.POLLIN)
        self._by_number: dict[int, _Server] = {}

    def register(self, name: str, function: Function) -> None:
        """Serve `function` under `name`; to be called before run().

        It gets a Job and returns the result: bytes, str (sent as UTF-8) or None (empty). It
        raises JobFailed to fail the job; any other exception goes to the client as text.
        """
        encoded = check_function(name)
        if encoded in self._functions:
            raise ValueError(f"function {name!r} is registered already")
        if is_async(function):
            raise ValueError(f"function {name!r} is async; serve it with gearvisor.aio.Worker")
        self._functions[encoded] = function
        self.counters.functions[encoded] = Tally()
        self._hello.append(encode(Packet.CAN_DO, encoded))

    def stop(self) -> None:
        """Make run() return after the running job. Safe in threads and signal handlers."""
        self._stopping = True
        self._deadlines.stop()
        try:
            self._wakeup.send(b"\0")
        except OSError:
            pass  # it is full of such bytes, or run() is over

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
        if self._status_file is not None:
            write_status_file(self._status_file, self._snapshot())
            self._publish_at = 0.0
        self._max_time = time.monotonic() + self._max_seconds
        try:
            while not self._stopping:
                self._connect_missing()
                server = next((server for server in self._servers if server.awake), None)
                if server is None:
                    self._sleep()
                else:
                    self._serve(server)
                    # To the end of the line: the others come first next time.
                    self._servers.remove(server)
                    self._servers.append(server)
                if self._limited:
                    self._check_limits()
        finally:
            self._deadlines.remove()
            for server in self._servers:
                if server.connection is not None:
                    server.connection.finish(STOP_TIMEOUT)
                    server.connection = None
            if self._status_file is not None:
                remove_status_file(self._status_file)
            self._alarm.close()
            self._wakeup.close()
            total = self.counters.total
            log.info("stopped: %d jobs done, %d failed", total.done, total.failed)

    def _on_signal(self, _number: int, _frame: object) -> None:
        # The kernel ends the process at the second one, even in C code of a function.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)
        self.stop()

    def _snapshot(self) -> dict[str, Any]:
        return self.counters.snapshot({each.name: each.answered for each in self._servers})

    def _publish(self, now: float) -> None:
        """Write the status file, if it is time to."""
        if now < self._publish_at or self._status_file is None:
            return
        try:
            write_status_file(self._status_file, self._snapshot())
        except OSError as error:
            if self._publishes:
                log.warning("cannot write the status file, trying on: %s", error)
            self._publishes = False
        else:
            self._publishes = True
        self._publish_at = now + PUBLISH_EVERY

    def _check_limits(self) -> None:
        now = time.monotonic()
        total = self.counters.total
        if total.done + total.failed >= self._max_jobs:
            reason = "the most jobs"
        elif now >= self._max_time:
            reason = "the most seconds"
        elif self._max_rss != NEVER and now >= self._memory_check_at:
            self._memory_check_at = now + MEMORY_CHECK
            try:
                if _resident() < self._max_rss:
                    return
            except OSError:  # a function has left no file descriptor for it
                return
            reason = "the most memory"
        else:
            return
        if not self._stopping:
            log.info("leaving: %s for one process reached", reason)
            self._stopping = True

    # Connections

    def _connect_missing(self) -> None:
        """Connect to each job server that is away and whose time to try again has come."""
        for server in self._servers:
            if server.connection is not None:
                continue
            started = time.monotonic()
            if started < server.retry_at or self._stopping:
                continue
            self._deadlines.rest()
            alone = all(other.connection is None for other in self._servers)
            try:
                server.connection = Connection(
                    server.host,
                    server.port,
                    CONNECT_TIMEOUT if alone else CONNECT_TIMEOUT_BUSY,
                    self._ssl_context,
                )
                server.connection.send(b"".join([*self._hello, _ECHO]))
            except ServerUnavailable as error:
                self._lost(server, error)
                if not alone:
                    # A host that swallows packets costs each attempt its timeout. The other job
                    # servers wait meanwhile: so for them it is 5 % of the time at most.
                    server.retry_at += 20 * (time.monotonic() - started)
            else:
                server.echo_at = started
                server.send = partial(self._deadlines.unbroken, server.connection.send)
                server.number = server.connection.fileno()
                self._poll.register(server.number, select.POLLIN)
                self._by_number[server.number] = server

    def _lost(self, server: _Server, error: GearmanError) -> None:
        """Note that a job server is away; its jobs here are void."""
        if server.connection is not None:
            server.connection.close()
            server.connection = None
        if server.number >= 0:
            self._poll.unregister(server.number)
            del self._by_number[server.number]
            server.number = -1
        server.awake = server.answered = False
        server.echo_at = NEVER
        if server.unconfirmed is not None:
            log.warning(
                "%s went away before it took the result of job %s; it may run again",
                server.name,
                server.unconfirmed.decode(errors="replace"),
            )
            server.unconfirmed = None
        if server.up is not False:
            log.warning("job server is away, trying again: %s", error)
            server.up = False
        server.retry_at = time.monotonic() + server.retry_pause * random.uniform(0.5, 1)
        server.retry_pause = min(2 * server.retry_pause, RETRY_MOST)

    def _sleep(self) -> None:
        """Wait for a NOOP, until something is to be done unbidden."""
        now = time.monotonic()
        self._publish(now)
        self._deadlines.rest()
        self._stir(now)
        timeout = POLL
        for server in self._servers:
            if server.connection is None:
                timeout = min(timeout, server.retry_at - now)
            elif server.echo_at == NEVER:
                timeout = min(timeout, server.asked_at + POLL - now)
        if self._limited:
            timeout = min(timeout, self._max_time - now)
        self._listen(max(0.0, timeout))

    def _stir(self, now: float) -> None:
        """Ask who has slept for a second for a sign of life: who gives one is asked for a job."""
        for server in self._servers:
            if server.connection is None or server.awake:
                continue
            try:
                if server.echo_at == NEVER and now - server.asked_at >= POLL:
                    server.echo_at = now
                    server.connection.send(_ECHO)
                elif now - server.echo_at > ANSWER_TIMEOUT:
                    raise no_answer(server.name, ANSWER_TIMEOUT)
            except ServerUnavailable as error:
                self._lost(server, error)

    def _listen(self, timeout: float) -> None:
        """Wait for what sleeping job servers send; who sends something is awake, or lost."""
        for number, _event in self._poll.poll(timeout * 1000):
            server = self._by_number.get(number)
            if server is None:
                continue  # stop() was called
            if server.awake or server.connection is None:
                continue  # it is being served: who asked it for a job reads its answer
            if server.answered and server.echo_at == NEVER:
                # It can only be a NOOP, an ERROR or the end of the connection: asking for a job
                # takes it in, and the NOOP is read while the job server looks for one.
                server.awake = True
                continue
            try:
                packet = server.connection.receive(0)
                if packet is not None:
                    self._noted(server, *packet)
                    # After an ERROR too: what follows it may have been read along with it, and
                    # asking for a job takes it in.
                    server.awake = True
            except (ServerUnavailable, ProtocolError) as error:
                self._lost(server, error)

    # Jobs

    def _serve(self, server: _Server) -> None:
        """Grab jobs of one job server and do them, until it has none or it is another's turn."""
        connection = server.connection
        assert connection is not None  # or it would not be awake
        try:
            connection.send(_GRAB)
            self._turn_ends = time.monotonic() + TURN
            while True:
                assignment = self._assignment(server, connection)
                server.unconfirmed = None
                if assignment is None:
                    connection.send(_PRE_SLEEP)
                    server.awake = False
                    server.asked_at = time.monotonic()
                    return
                final = self._perform(server, *assignment)
                server.unconfirmed = assignment[0]
                if len(final) > _LONG:
                    self._deadlines.rest()
                    connection.stall = self._patience(server)
                if self._limited:
                    self._check_limits()
                if self._stopping or self._others_turn(server):
                    connection.send(final)
                    return
                connection.send(final + _GRAB)
        except (ServerUnavailable, ProtocolError) as error:
            self._lost(server, error)

    def _others_turn(self, server: _Server) -> bool:
        """Whether its turn is over and another may have a job, or is due to be connected to."""
        now = time.monotonic()
        if now < self._turn_ends or len(self._servers) == 1:
            return False
        self._turn_ends = now + TURN
        self._stir(now)
        self._listen(0)
        return any(
            other.awake or (other.connection is None and other.retry_at <= now)
            for other in self._servers
            if other is not server
        )

    def _assignment(self, server: _Server, connection: Connection) -> list[bytes] | None:
        """Return the answer to GRAB_JOB: handle, function, unique id and data, or None: no job."""
        waiting_since, missing = time.monotonic(), 0
        while True:
            packet = connection.receive(POLL, at_once=self._streak > 1)
            if packet is not None:
                kind, arguments = packet
                if kind == Packet.JOB_ASSIGN_UNIQ or kind == Packet.NO_JOB:
                    if not server.answered:
                        self._answered(server)
                    self._streak = self._streak + 1 if arguments else 0
                    return arguments or None
                self._noted(server, kind, arguments)
            now = time.monotonic()
            if packet is None:
                self._deadlines.rest()
                self._publish(now)
            if connection.missing != missing:  # some of a long packet came
                waiting_since, missing = now, connection.missing
            limit = STOP_TIMEOUT if self._stopping else self._patience(server)
            if now - waiting_since > limit:
                raise no_answer(server.name, limit)

    def _patience(self, server: _Server) -> float:
        """Seconds for which a job server may neither send what is due nor take what it is sent."""
        others = (other for other in self._servers if other is not server)
        if any(other.connection is not None for other in others):
            return ANSWER_TIMEOUT_BUSY
        return ANSWER_TIMEOUT

    def _answered(self, server: _Server) -> None:
        """Note that a job server really is there: something else may have taken the connection."""
        server.answered = True
        server.retry_pause = RETRY_FIRST
        if not server.up:
            log.info("serving %s as %s", server.name, self.client_id)
            server.up = True

    def _noted(self, server: _Server, kind: Packet, arguments: list[bytes]) -> None:
        """Take what a job server may send at any time."""
        if kind == Packet.ECHO_RES:
            server.echo_at = NEVER
        unasked(server.name, kind, arguments)

    def _perform(
        self, server: _Server, handle: bytes, name: bytes, unique: bytes, data: bytes
    ) -> bytes:
        """Do a job and return its one final packet."""
        job = Job(server.send, handle, name, unique, data)
        function = self._functions.get(name)
        if function is None:
            log.error("job %s is for %s, which this worker has not", job.handle, job.function)
            return encode(Packet.WORK_FAIL, handle)
        started = time.monotonic()
        failure: BaseException | None = None
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
        except BaseException as error:  # exit() in a function must not end the worker
            failure = error
            self._deadlines.end_job()  # the alarm may have come before it took effect above
        job.over()
        if os.getpid() != self._pid:
            _leave_as_child(failure)
        now = time.monotonic()
        self.counters.add(name, now - started, failure is not None)
        if failure is not None:
            final = failed(job, handle, failure, now - started)
        elif log.isEnabledFor(logging.DEBUG):
            fields = log_fields(job, now - started, "done")
            log.debug("job %s of %s done", job.handle, job.function, extra=fields)
        self._publish(now)
        return final


def default_client_id() -> str:
    """The id of a worker that was given none."""
    return f"gearvisor-{socket.gethostname()}-{os.getpid()}"


def no_answer(server: str, seconds: float) -> ServerUnavailable:
    """The error of a job server that does not answer."""
    return ServerUnavailable(server, f"no answer for {seconds:g} s")


def unasked(server: str, kind: Packet, arguments: list[bytes]) -> None:
    """Take what a job server may send at any time; raises ProtocolError for all else."""
    if kind == Packet.ERROR:
        text = b" ".join(arguments).decode(errors="replace")
        log.warning("%s replied with an error: %s", server, text)
    elif kind not in (Packet.NOOP, Packet.ECHO_RES):
        raise ProtocolError(f"{server}: a worker does not expect {kind.name}")


def _leave_as_child(failure: BaseException | None) -> None:
    """End a process that a function forked: the job, and the connection, are its parent's."""
    code = failure.code if isinstance(failure, SystemExit) else failure
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _resident() -> float:
    """The memory of this process in RAM, in MiB (Linux: proc_pid_statm(5)); raises OSError."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
