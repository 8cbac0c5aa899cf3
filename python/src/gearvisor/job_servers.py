# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The job servers of a synchronous worker: their connections, and which of them may have a job.

A worker that has asked a job server for a job waits for its answer before it asks another: so that
a hung server does not block the others, it has to answer an ECHO_REQ first, while nothing waits.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Callable

from .connection import Connection, format_server
from .errors import GearmanError, ProtocolError, ServerUnavailable
from .jobs import log
from .session import Complaint, Event, Session, State

if TYPE_CHECKING:
    import ssl

POLL = 1.0  # seconds a worker sleeps at most before it asks for a job unbidden
CONNECT_TIMEOUT = 3.0  # seconds, while no other job server is connected
CONNECT_TIMEOUT_BUSY = 0.5  # seconds, while one is
ANSWER_TIMEOUT = 30.0  # seconds without an answer after which a job server counts as hung
ANSWER_TIMEOUT_BUSY = 5.0  # seconds, for the one asked for a job while another is connected
RETRY_FIRST, RETRY_MOST = 0.1, 5.0  # seconds between attempts to connect, doubling

# A sign of life is due. In all other states the code that asked the job server reads its answer.
_QUIET = (State.GREETED, State.PROBED)

Sender = Callable[[bytes], None]


class Lane:
    """One connection to a job server and its conversation. Raises ServerUnavailable when lost.

    send_of_job: sends what a job's function has to send. stirred_at: when the job server last had
    no job, or was asked for a sign of life, on the monotonic clock.
    """

    def __init__(self, connection: Connection, session: Session, unbroken: Callable[..., None]):
        self.connection = connection
        self.session = session
        self.send = connection.send
        self.send_of_job: Sender = lambda data: unbroken(connection.send, data)
        self.stirred_at = time.monotonic()

    def receive(self, timeout: float) -> Event | None:
        """Return the next event; None: what came within `timeout` seconds was not all of one."""
        try:
            event = self.session.next_event()
            if event is None:
                data = self.connection.read(timeout, self.session.missing)
                if data is not None:
                    self.session.feed(data)
                    event = self.session.next_event()
        except ProtocolError as error:
            raise ProtocolError(f"{self.connection.server}: {error}") from None
        if isinstance(event, Complaint):
            log.warning("%s replied with an error: %s", self.connection.server, event.text)
        return event

    def sleep(self, now: float) -> None:
        """Wait for the job server's NOOP."""
        self.send(self.session.sleep())
        self.stirred_at = now


class JobServer:
    """One of them. lane: its connection, None while it is away.

    ahead: further connections, by which a worker asks for jobs ahead. answered: it answered on this
    connection as job servers do. up: as last logged. hands_out_again: see retries.py; None: it was
    not asked.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.name = format_server(host, port)
        self.lane: Lane | None = None
        self.ahead: list[Lane] = []
        self.number = -1  # the file descriptor of the lane, while it is watched
        self.answered = False
        self.up: bool | None = None
        self.hands_out_again: bool | None = None
        self.retry_at = 0.0  # on the monotonic clock
        self.retry_pause = RETRY_FIRST

    @property
    def lanes(self) -> list[Lane]:
        """All its connections."""
        return [] if self.lane is None else [self.lane, *self.ahead]

    @property
    def awake(self) -> bool:
        """Whether it may have a job."""
        return self.lane is not None and self.lane.session.state == State.READY


class JobServers:
    """All of them, and what wakes a worker that waits for them.

    new_session: makes the conversation of a new connection. unbroken(send, data): sends what the
    function of a job has to send.
    """

    def __init__(
        self,
        addresses: Iterable[tuple[str, int]],
        ssl_context: ssl.SSLContext | None,
        new_session: Callable[[], Session],
        unbroken: Callable[..., None],
    ) -> None:
        self._all = [JobServer(*address) for address in addresses]
        random.shuffle(self._all)  # so that a fleet does not favour the first one
        self._ssl_context = ssl_context
        self._new_session = new_session
        self._unbroken = unbroken
        # A byte sent here ends wait(), also from a signal handler or a thread.
        self._alarm, self._wakeup = socket.socketpair()
        self._alarm.setblocking(False)
        self._wakeup.setblocking(False)
        self._poll = select.poll()  # for the alarm and all connections
        self._poll.register(self._alarm, select.POLLIN)
        self._by_number: dict[int, JobServer] = {}

    def __iter__(self) -> Iterator[JobServer]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def wake_up(self) -> None:
        """End wait(), now or next time. Safe in threads and signal handlers."""
        try:
            self._wakeup.send(b"\0")
        except OSError:
            pass  # it is full of such bytes, or closed

    def close(self, timeout: float) -> None:
        """End all connections in order, `timeout` seconds each at most."""
        for server in self._all:
            for lane in server.lanes:
                lane.connection.finish(timeout)
        self._alarm.close()
        self._wakeup.close()

    def next_awake(self) -> JobServer | None:
        """Return one that may have a job; it is behind the others then."""
        for server in self._all:
            if server.awake:
                self._all.remove(server)
                self._all.append(server)
                return server
        return None

    def others_of(self, server: JobServer) -> Iterator[JobServer]:
        return (other for other in self._all if other is not server)

    def patience(self, server: JobServer) -> float:
        """Seconds for which it may neither send what is due nor take what it is sent."""
        if any(other.lane is not None for other in self.others_of(server)):
            return ANSWER_TIMEOUT_BUSY
        return ANSWER_TIMEOUT

    # Connections

    def are_due(self, now: float) -> bool:
        """Whether connect() has anything to do."""
        return any(each.lane is None and each.retry_at <= now for each in self._all)

    def connect(self, server: JobServer) -> None:
        """Try one that is away and due. A failure is logged, and it is tried again later."""
        started = time.monotonic()
        alone = all(other.lane is None for other in self._all)
        try:
            server.lane = self.open_lane(server, CONNECT_TIMEOUT if alone else CONNECT_TIMEOUT_BUSY)
        except ServerUnavailable as error:
            self.lost(server, error)
            if not alone:
                # A host that swallows packets costs each attempt its timeout. The other job
                # servers wait meanwhile: so for them it is 5 % of the time at most.
                server.retry_at += 20 * (time.monotonic() - started)
        else:
            server.number = server.lane.connection.fileno()
            self._poll.register(server.number, select.POLLIN)
            self._by_number[server.number] = server

    def open_lane(self, server: JobServer, timeout: float) -> Lane:
        """Return a new connection that has greeted the job server; raises ServerUnavailable."""
        connection = Connection(server.host, server.port, timeout, self._ssl_context)
        lane = Lane(connection, self._new_session(), self._unbroken)
        lane.send(lane.session.greet())
        return lane

    def lost(self, server: JobServer, error: GearmanError) -> None:
        """Note that it is away; its jobs here are void."""
        for lane in server.lanes:
            lane.connection.close()
            if lane.session.unconfirmed is not None:
                log.warning(
                    "%s went away before it took the result of job %s; it may run again",
                    server.name,
                    lane.session.unconfirmed.decode(errors="replace"),
                )
        server.lane = None
        server.ahead = []
        if server.number >= 0:
            self._poll.unregister(server.number)
            del self._by_number[server.number]
            server.number = -1
        server.answered = False
        server.hands_out_again = None
        if server.up is not False:
            log.warning("job server is away, trying again: %s", error)
            server.up = False
        server.retry_at = time.monotonic() + server.retry_pause * random.uniform(0.5, 1)
        server.retry_pause = min(2 * server.retry_pause, RETRY_MOST)

    def open_ahead(self, server: JobServer, number: int) -> None:
        """Open further lanes that are ready to be asked; what fails is left for later.

        None where a job that was asked for ahead would be gone if this process died.
        """
        if server.ahead or not self._hands_out_again(server):
            return
        while len(server.ahead) < number:
            try:
                lane = self.open_lane(server, CONNECT_TIMEOUT_BUSY)
                ends = time.monotonic() + CONNECT_TIMEOUT_BUSY
                while lane.session.state != State.READY:
                    lane.receive(CONNECT_TIMEOUT_BUSY)
                    if time.monotonic() > ends:
                        raise no_answer(server.name, CONNECT_TIMEOUT_BUSY)
            except (ServerUnavailable, ProtocolError):
                return
            server.ahead.append(lane)

    def _hands_out_again(self, server: JobServer) -> bool:
        """Ask once for each time that it is connected to."""
        if server.hands_out_again is None:
            from .retries import hands_out_again

            server.hands_out_again = hands_out_again(
                lambda: Connection(
                    server.host, server.port, CONNECT_TIMEOUT_BUSY, self._ssl_context
                )
            )
            if not server.hands_out_again:
                log.warning(
                    "no job of %s is requested ahead: with its --job-retries of 1, one would be"
                    " lost with its worker. Set it to 2 or more, or to 0",
                    server.name,
                )
        return server.hands_out_again

    def close_ahead(self, server: JobServer, timeout: float) -> None:
        """Close the further lanes that neither have a job nor were asked for one."""
        for lane in list(server.ahead):
            if lane.session.state == State.READY:
                lane.connection.finish(timeout)
                server.ahead.remove(lane)

    # Sleep

    def stir(self, now: float) -> None:
        """Ask who has slept for a second for a sign of life: who gives one is asked for a job."""
        for server in self._all:
            lane = server.lane
            if lane is None or server.awake:
                continue
            quiet = now - lane.stirred_at
            try:
                if lane.session.state == State.ASLEEP:
                    if quiet >= POLL:
                        lane.stirred_at = now
                        lane.send(lane.session.probe())
                elif lane.session.state in _QUIET and quiet > ANSWER_TIMEOUT:
                    raise no_answer(server.name, ANSWER_TIMEOUT)
            except ServerUnavailable as error:
                self.lost(server, error)

    def patience_of_sleep(self, now: float) -> float:
        """Seconds until stir() or connect() has something to do."""
        seconds = POLL
        for server in self._all:
            if server.lane is None:
                seconds = min(seconds, server.retry_at - now)
            elif server.lane.session.state == State.ASLEEP:
                seconds = min(seconds, server.lane.stirred_at + POLL - now)
        return max(0.0, seconds)

    def wait(self, timeout: float) -> None:
        """Wait for what sleeping job servers send; who sends something is awake, or lost."""
        for number, _event in self._poll.poll(timeout * 1000):
            server = self._by_number.get(number)
            # None: wake_up() was called. One that is awake is asked for a job soon.
            if server is None or server.lane is None or server.awake:
                continue
            session = server.lane.session
            session.wake()
            if session.state in _QUIET:
                try:
                    server.lane.receive(0)
                except (ServerUnavailable, ProtocolError) as error:
                    self.lost(server, error)


def no_answer(server: str, seconds: float) -> ServerUnavailable:
    """The error of a job server that does not answer."""
    return ServerUnavailable(server, f"no answer for {seconds:g} s")
