# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conversation of a worker with a job server: bytes in, events and bytes out."""

from __future__ import annotations

import itertools
import random

import pytest
from gearvisor.errors import ProtocolError
from gearvisor.protocol import REQUEST, Decoder, Packet, encode
from gearvisor.session import FINAL, RECEIVED, SENT, Assigned, Complaint, NoJob, Session, State


def says(kind, *arguments):
    return encode(kind, *arguments, response=True)


JOB = says(Packet.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"u", b"data\0with nul")
NO_JOB = says(Packet.NO_JOB)
NOOP = says(Packet.NOOP)
ECHO = says(Packet.ECHO_RES, b"gearvisor")
ERROR = says(Packet.ERROR, b"JOB_NOT_FOUND", b"no such job")
DONE = encode(Packet.WORK_COMPLETE, b"H:1", b"result")


def packets(data):
    decoder = Decoder(REQUEST)
    decoder.feed(data)
    return [(kind.name, *arguments) for kind, arguments in decoder]


def new_session(state=State.NEW, **options):
    """A session in a state, reached as a worker reaches it."""
    session = Session(b"me", [b"f", b"g"], **options)
    steps = {
        State.GREETED: [session.greet],
        State.READY: [session.greet, ECHO],
        State.ASKED: [session.greet, ECHO, session.ask],
        State.WORKING: [session.greet, ECHO, session.ask, JOB],
        State.ASLEEP: [session.greet, ECHO, session.ask, NO_JOB, session.sleep],
        State.PROBED: [session.greet, ECHO, session.ask, NO_JOB, session.sleep, session.probe],
    }.get(state, [])
    for step in steps:
        if callable(step):
            step()
        else:
            session.feed(step)
            session.next_event()
    assert session.state == state
    return session


def test_it_introduces_the_worker_and_asks_for_a_sign_of_life():
    assert packets(Session(b"me", [b"f", b"g"]).greet()) == [
        ("SET_CLIENT_ID", b"me"), ("CAN_DO", b"f"), ("CAN_DO", b"g"), ("ECHO_REQ", b"gearvisor"),
    ]  # fmt: skip


def test_a_job_from_question_to_answer():
    session = new_session(State.READY)
    assert packets(session.ask()) == [("GRAB_JOB_UNIQ",)]
    session.feed(NOOP + JOB)
    session.next_event()
    assert session.next_event() == Assigned(b"H:1", b"f", b"u", b"data\0with nul")
    assert session.unconfirmed is None
    assert packets(session.answer(DONE)) == [("WORK_COMPLETE", b"H:1", b"result")]
    assert session.unconfirmed == b"H:1"
    session.ask()
    session.feed(NO_JOB)
    assert session.next_event() == NoJob()
    assert session.unconfirmed is None
    assert packets(session.sleep()) == [("PRE_SLEEP",)]
    session.feed(NOOP)
    session.next_event()
    assert session.state == State.READY


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("kind", list(Packet))
def test_only_what_the_table_has_may_come(state, kind):
    from gearvisor.protocol import ARGUMENTS

    session = new_session(state)
    session.feed(says(kind, *[b"x"] * ARGUMENTS[kind]))
    if (state, kind) in RECEIVED:
        session.next_event()
        assert session.state == RECEIVED[state, kind]
    else:
        with pytest.raises(ProtocolError, match=f"does not expect {kind.name}"):
            session.next_event()


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(
    ("method", "kind", "arguments"),
    [
        ("greet", Packet.ECHO_REQ, ()),
        ("ask", Packet.GRAB_JOB_UNIQ, ()),
        ("sleep", Packet.PRE_SLEEP, ()),
        ("answer", FINAL, (DONE,)),
    ],
)
def test_only_what_the_table_has_may_be_sent(state, method, kind, arguments):
    session = new_session(state)
    if method == "greet" and state == State.ASLEEP:
        return  # the same packet as probe()
    if (state, kind) in SENT:
        getattr(session, method)(*arguments)
        assert session.state == SENT[state, kind]
    else:
        with pytest.raises(RuntimeError, match="must not be sent"):
            getattr(session, method)(*arguments)
        assert session.state == state


def test_there_is_exactly_one_final_packet():
    session = new_session(State.WORKING)
    session.answer(DONE)
    with pytest.raises(RuntimeError):
        session.answer(DONE)


@pytest.mark.parametrize("state", [each for each in State if each != State.NEW])
def test_an_error_may_come_at_any_time(state):
    session = new_session(state)
    session.feed(ERROR)
    assert session.next_event() == Complaint("JOB_NOT_FOUND no such job")


def test_waking_up_without_a_look_is_only_for_who_sleeps():
    for state in State:
        session = new_session(state)
        session.wake()
        assert session.state == (State.READY if state == State.ASLEEP else state)


# Pauses


@pytest.mark.parametrize("state", [State.GREETED, State.READY, State.ASLEEP, State.PROBED])
def test_a_pause_goes_at_once_while_no_job_can_be_on_its_way(state):
    session = new_session(state)
    assert packets(session.pause([b"g"])) == [("CANT_DO", b"g")]
    assert session.pause([b"g"]) == b""
    assert packets(session.pause([b"f"])) == [("CANT_DO", b"f"), ("CAN_DO", b"g")]
    assert packets(session.pause([])) == [("CAN_DO", b"f")]


@pytest.mark.parametrize("state", [State.ASKED, State.WORKING])
def test_a_pause_waits_for_the_end_of_a_job(state):
    session = new_session(state)
    assert session.pause([b"f"]) == b""
    if state == State.ASKED:
        session.feed(JOB)
        session.next_event()
    assert packets(session.answer(DONE) + session.ask()) == [
        ("WORK_COMPLETE", b"H:1", b"result"), ("CANT_DO", b"f"), ("GRAB_JOB_UNIQ",),
    ]  # fmt: skip


def test_a_pause_waits_for_the_answer_that_there_is_no_job():
    session = new_session(State.ASKED)
    assert session.pause([b"f"]) == b""
    session.feed(NO_JOB)
    session.next_event()
    assert packets(session.sleep()) == [("CANT_DO", b"f"), ("PRE_SLEEP",)]


def test_paused_functions_are_not_registered():
    names = [each for each in packets(Session(b"me", [b"f", b"g"], [b"f"]).greet())]
    assert ("CAN_DO", b"g") in names and ("CAN_DO", b"f") not in names


# Cut and garbled streams


@pytest.mark.parametrize("seed", range(20))
def test_bytes_may_be_cut_anywhere(seed):
    choose = random.Random(seed)
    session = new_session(State.ASKED)
    data = NOOP + ERROR + ECHO + JOB
    events = []
    while data:
        size = choose.randint(1, 9)
        session.feed(data[:size])
        data = data[size:]
        events += iter(session.next_event, None)
    assert [type(event).__name__ for event in events] == [
        "SignOfLife", "Complaint", "SignOfLife", "Assigned",
    ]  # fmt: skip


def test_garbage_never_does_anything_but_raise_protocol_error():
    choose = random.Random(7)
    good = [JOB, NO_JOB, NOOP, ECHO, ERROR]
    for _ in range(2000):
        session = new_session(choose.choice(list(State)))
        data = bytearray(b"".join(choose.choices(good, k=3)))
        for _ in range(choose.randint(0, 4)):
            data[choose.randrange(len(data))] = choose.randrange(256)
        session.feed(bytes(data))
        try:
            for _ in itertools.takewhile(lambda event: event is not None,
                                         iter(session.next_event, 0)):  # fmt: skip
                pass
        except ProtocolError:
            pass
