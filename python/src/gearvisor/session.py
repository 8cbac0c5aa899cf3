# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conversation of one worker connection with one job server, without I/O.

Bytes in, events out, bytes to send: no socket and no clock. worker.py and aio.py add those. Which
packet may come or go in which state is in the two tables below, and nowhere else.

The loop on a connection: ask for a job (GRAB_JOB_UNIQ); then either do it and answer, or sleep
(PRE_SLEEP) until the job server sends NOOP. A worker with more to do puts its answer and the next
GRAB_JOB_UNIQ in one write: half the round trips.

Facts the design rests on:
- A job that was assigned to a lost connection is given away again by its job server at once, and
  handles start at 1 again when a job server restarts. So a result goes to the connection its job
  came from or nowhere: a Session is made new with each connection.
- A worker that asked one job server for a job must wait for its answer before it asks another. So
  that a hung one does not block the others, it has to answer an ECHO_REQ first.
- gearmand answers a second final packet with an ERROR that can arrive at any time: so there is
  exactly one, and an ERROR is an event in every state.
- A CANT_DO for the function of a job that the worker holds makes gearmand hand out that job again
  (facts of gearmand 1.1.20). So abilities change only while no job is held or asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import IntEnum
from typing import NamedTuple, Union

from .errors import ProtocolError
from .protocol import MAX_PACKET, Decoder, Packet, encode


class State(IntEnum):
    """Where the conversation stands."""

    NEW = 0  # nothing was sent yet
    GREETED = 1  # introduced, and asked for a sign of life
    READY = 2  # it is alive, and may have a job
    ASKED = 3  # it was asked for a job
    WORKING = 4  # it assigned one, which is not answered yet
    ASLEEP = 5  # it had none, and sends NOOP when it has one
    PROBED = 6  # asleep, and asked for a sign of life


FINAL = Packet.WORK_COMPLETE  # or WORK_FAIL, or WORK_EXCEPTION: the one that ends a job

# What the worker sends that changes the state.
SENT = {
    (State.NEW, Packet.ECHO_REQ): State.GREETED,
    (State.READY, Packet.GRAB_JOB_UNIQ): State.ASKED,
    (State.READY, Packet.PRE_SLEEP): State.ASLEEP,
    (State.ASLEEP, Packet.ECHO_REQ): State.PROBED,
    (State.WORKING, FINAL): State.READY,
}

# What the job server may send. Any sign of life wakes: what follows it may have been read along
# with it, and asking for a job takes that in.
RECEIVED = {
    (State.ASKED, Packet.JOB_ASSIGN_UNIQ): State.WORKING,
    (State.ASKED, Packet.NO_JOB): State.READY,
    **{
        (state, packet): State.READY
        for state in (State.GREETED, State.ASLEEP, State.PROBED)
        for packet in (Packet.NOOP, Packet.ECHO_RES, Packet.ERROR)
    },
    **{
        (state, packet): state
        for state in (State.READY, State.ASKED, State.WORKING)
        for packet in (Packet.NOOP, Packet.ECHO_RES, Packet.ERROR)
    },
}

# States in which the job server cannot be about to assign a job, nor has assigned one.
_FREE = (State.GREETED, State.READY, State.ASLEEP, State.PROBED)

_GRAB = encode(Packet.GRAB_JOB_UNIQ)
_PRE_SLEEP = encode(Packet.PRE_SLEEP)
_ECHO = encode(Packet.ECHO_REQ, b"gearvisor")


class Assigned(NamedTuple):
    """A job to do."""

    handle: bytes
    function: bytes
    unique: bytes
    data: bytes


class NoJob(NamedTuple):
    """The job server has none for this worker."""


class SignOfLife(NamedTuple):
    """A NOOP, or the answer to a question for one."""


class Complaint(NamedTuple):
    """An ERROR, which the job server may send at any time."""

    text: str


Event = Union[Assigned, NoJob, SignOfLife, Complaint]
_NO_JOB, _SIGN_OF_LIFE = NoJob(), SignOfLife()


class Session:
    """One connection's conversation. Feed what is read, take the events, send what is returned.

    unconfirmed: the handle of the job whose answer was sent last, until the job server sends
    something that comes after it.
    """

    def __init__(
        self,
        client_id: bytes,
        functions: Iterable[bytes],
        paused: Collection[bytes] = (),
        max_packet: int = MAX_PACKET,
    ) -> None:
        self.state = State.NEW
        self.unconfirmed: bytes | None = None
        self._decoder = Decoder(max_packet=max_packet)
        self.feed = self._decoder.feed
        self._client_id = client_id
        self._functions = list(functions)
        self._paused = frozenset(paused)
        self._handle = b""  # of the job in hand
        self._changes = b""  # of abilities, to be sent when no job is held or asked for

    @property
    def missing(self) -> int:
        """Bytes that are to come of a packet that has begun to: less each time means progress."""
        return self._decoder.missing

    def next_event(self) -> Event | None:
        """Return what the bytes fed mean, or None until more are fed; raises ProtocolError."""
        packet = self._decoder.next_packet()
        if packet is None:
            return None
        kind, arguments = packet
        state = RECEIVED.get((self.state, kind))
        if state is None:
            raise ProtocolError(f"a worker does not expect {kind.name} while {self.state.name}")
        self.state = state
        if kind == Packet.JOB_ASSIGN_UNIQ:
            self.unconfirmed = None
            self._handle = arguments[0]
            return Assigned(*arguments)
        if kind == Packet.NO_JOB:
            self.unconfirmed = None
            return _NO_JOB
        if kind == Packet.ERROR:
            return Complaint(b" ".join(arguments).decode(errors="replace"))
        return _SIGN_OF_LIFE

    def wake(self) -> None:
        """Something can be read from a job server that is asleep: it can only be a sign of life.

        Asking for a job takes it in, and saves a read.
        """
        if self.state == State.ASLEEP:
            self.state = State.READY

    # What to send

    def greet(self) -> bytes:
        """Introduce the worker, and ask for a sign of life before anything else is asked."""
        self._send(Packet.ECHO_REQ)
        can_do = [
            encode(Packet.CAN_DO, name) for name in self._functions if name not in self._paused
        ]
        return b"".join([encode(Packet.SET_CLIENT_ID, self._client_id), *can_do, _ECHO])

    def ask(self) -> bytes:
        """Ask for a job."""
        self._send(Packet.GRAB_JOB_UNIQ)
        return _GRAB

    def answer(self, final: bytes) -> bytes:
        """End the job in hand with its one final packet; ask() or sleep() comes next."""
        self._send(FINAL)
        self.unconfirmed = self._handle
        return final + self._take_changes() if self._changes else final

    def sleep(self) -> bytes:
        """Wait for the job server's NOOP."""
        self._send(Packet.PRE_SLEEP)
        return self._take_changes() + _PRE_SLEEP if self._changes else _PRE_SLEEP

    def probe(self) -> bytes:
        """Ask a job server that is asleep for a sign of life."""
        self._send(Packet.ECHO_REQ)
        return _ECHO

    def pause(self, functions: Collection[bytes]) -> bytes:
        """Serve all functions but these from now on; return what to send of it at once.

        What cannot go now, since a job is held or asked for, goes with what is sent after it.
        """
        paused = frozenset(functions)
        self._changes += b"".join(
            encode(Packet.CANT_DO if name in paused else Packet.CAN_DO, name)
            for name in self._functions
            if (name in paused) != (name in self._paused)
        )
        self._paused = paused
        return self._take_changes() if self.state in _FREE else b""

    def _take_changes(self) -> bytes:
        changes, self._changes = self._changes, b""
        return changes

    def _send(self, kind: Packet) -> None:
        state = SENT.get((self.state, kind))
        if state is None:
            raise RuntimeError(f"{kind.name} must not be sent while {self.state.name}")
        self.state = state
