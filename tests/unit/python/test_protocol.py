# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets to bytes and back."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc

import pytest
from gearvisor.errors import ProtocolError
from gearvisor.protocol import (
    ARGUMENTS,
    REQUEST,
    RESPONSE,
    Decoder,
    Packet,
    check_client_id,
    check_function,
    check_unique,
    encode,
)
from hypothesis import given
from hypothesis import strategies as st

PACKETS = 1_000_000 if os.environ.get("GEARVISOR_TEST_ALL") else 20_000
WITHOUT_NUL = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b""))


@st.composite
def packets(draw):
    kind = draw(st.sampled_from(sorted(Packet)))
    count = ARGUMENTS[kind]
    arguments = [draw(WITHOUT_NUL) for _ in range(count)]
    if count:
        arguments[-1] = draw(st.binary(max_size=300))
    return kind, arguments


@pytest.mark.parametrize(
    ("packet", "wire"),
    [  # the example at the end of gearmand's PROTOCOL document
        ((Packet.CAN_DO, b"reverse"), b"\0REQ\0\0\0\x01\0\0\0\x07reverse"),
        ((Packet.GRAB_JOB,), b"\0REQ\0\0\0\x09\0\0\0\0"),
        ((Packet.SUBMIT_JOB, b"reverse", b"", b"test"), b"\0REQ\0\0\0\x07\0\0\0\rreverse\0\0test"),
        ((Packet.WORK_COMPLETE, b"H:lap:1", b"tset"), b"\0REQ\0\0\0\r\0\0\0\x0cH:lap:1\0tset"),
    ],
)
def test_encodes_the_example_of_the_protocol(packet, wire):
    assert encode(*packet) == wire


def test_decodes_the_example_of_the_protocol():
    decoder = Decoder()
    decoder.feed(b"\0RES\0\0\0\x08\0\0\0\x07H:lap:1\0RES\0\0\0\x06\0\0\0\0")
    decoder.feed(b"\0RES\0\0\0\x0b\0\0\0\x14H:lap:1\0reverse\0test")
    assert list(decoder) == [
        (Packet.JOB_CREATED, [b"H:lap:1"]),
        (Packet.NOOP, []),
        (Packet.JOB_ASSIGN, [b"H:lap:1", b"reverse", b"test"]),
    ]


@given(st.lists(packets(), max_size=6), st.data(), st.sampled_from([REQUEST, RESPONSE]))
def test_any_split_of_the_stream_gives_the_same_packets(sent, data, magic):
    stream = b"".join(encode(kind, *args, response=magic == RESPONSE) for kind, args in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder(magic)
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        decoder.feed(stream[start:end])
        received += decoder
    assert received == sent
    assert decoder.next_packet() is None


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_hostile_bytes_are_an_error_or_an_incomplete_packet(chunks):
    decoder = Decoder(max_packet=1024)
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            for kind, arguments in decoder:
                assert len(arguments) == ARGUMENTS[kind]
    except ProtocolError:
        pass


@given(st.binary(min_size=8, max_size=200))
def test_hostile_bytes_after_a_good_magic(body):
    decoder = Decoder(max_packet=1024)
    decoder.feed(RESPONSE + body)
    try:
        list(decoder)
    except ProtocolError:
        pass


def damaged(rng, wire):
    """The packet with one thing wrong with it, or nothing."""
    place = rng.randrange(len(wire) + 1)
    return rng.choice(
        (
            wire,
            wire[:place],
            wire[:place] + rng.randbytes(rng.randrange(9)) + wire[place:],
            wire[:place] + bytes([rng.randrange(256)]) + wire[place + 1 :],
            wire[:8]
            + struct.pack(">I", rng.choice((0, 1, 1024, 1025, 2**31, 2**32 - 1)))
            + wire[12:],
            rng.randbytes(rng.randrange(40)),
        )
    )


def test_damaged_packets_are_packets_or_an_error():
    """Never another exception, a loop, or more memory than a packet may have."""
    rng = random.Random(4)
    kinds = sorted(Packet)
    read = refused = 0
    decoder = Decoder(max_packet=1024)
    for _ in range(PACKETS):
        kind = rng.choice(kinds)
        arguments = [
            rng.randbytes(rng.randrange(20)).replace(b"\0", b"") for _ in range(ARGUMENTS[kind])
        ]
        try:
            decoder.feed(damaged(rng, encode(kind, *arguments, response=True)))
            for found, parts in decoder:
                assert len(parts) == ARGUMENTS[found]
                read += 1
        except ProtocolError:
            refused += 1
            decoder = Decoder(max_packet=1024)
        assert len(decoder._buffer) <= 1024 + 12 + 60
    assert read > PACKETS / 10
    assert refused > PACKETS / 10


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "not the Gearman protocol"),
        (b"H", "not the Gearman protocol"),
        (b"\0REQ\0\0\0\x06\0\0\0\0", "not the Gearman protocol"),
        (RESPONSE + struct.pack(">II", 5, 0), "unknown kind 5"),
        (RESPONSE + struct.pack(">II", 99, 0), "unknown kind 99"),
        (RESPONSE + struct.pack(">II", 13, 1025), "over the limit of 1024"),
        (RESPONSE + struct.pack(">II", 13, 2**32 - 1), "over the limit of 1024"),
        (encode(Packet.WORK_COMPLETE, b"H:1", response=True), "1 of its 2 arguments"),
        (encode(Packet.NOOP, b"x", response=True), "1 bytes of arguments, not none"),
    ],
)
def test_what_is_not_the_protocol_is_refused_at_once(wire, says):
    decoder = Decoder(max_packet=1024)
    decoder.feed(wire)
    with pytest.raises(ProtocolError, match=says):
        decoder.next_packet()


def test_a_packet_of_exactly_the_limit_passes():
    decoder = Decoder(max_packet=1024)
    decoder.feed(encode(Packet.ECHO_RES, b"x" * 1024, response=True))
    assert decoder.next_packet() == (Packet.ECHO_RES, [b"x" * 1024])


@pytest.mark.parametrize(
    ("check", "value", "says"),
    [
        (check_function, "", "function name is empty"),
        (check_function, "a\0b", "holds a NUL"),
        (check_function, "f" * 513, "513 bytes long; the limit is 512"),
        (check_function, b"f", "is not a string"),
        (check_unique, "", "unique id is empty"),
        (check_unique, "\u00e9" * 33, "66 bytes long; the limit is 63"),
        (check_client_id, "two words", "holds a blank"),
        (check_client_id, "line\n", "holds a blank"),
        (check_client_id, "i" * 128, "the limit is 127"),
    ],
)
def test_names_no_job_server_takes_are_refused(check, value, says):
    with pytest.raises(ValueError, match=says):
        check(value)


def test_names_are_sent_as_utf8():
    assert check_function("\u00e9" * 256) == b"\xc3\xa9" * 256
    assert check_unique("u" * 63) == b"u" * 63


@pytest.mark.parametrize("chunk", [2**16, 2**18])
def test_a_large_packet_takes_about_one_copy_more_than_itself(chunk):
    size = 32 * 2**20
    head = encode(Packet.JOB_ASSIGN_UNIQ, b"H:1", b"f", b"u", b"", response=True)
    head = head[:8] + (len(head) - 12 + size).to_bytes(4, "big") + head[12:]
    decoder = Decoder()
    tracemalloc.start()
    try:
        decoder.feed(head)
        for _ in range(size // chunk):
            assert decoder.next_packet() is None
            decoder.feed(bytes(chunk))
        kind, arguments = decoder.next_packet()
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (kind, len(arguments[3])) == (Packet.JOB_ASSIGN_UNIQ, size)
    assert peak < 2.2 * size


def test_sending_a_large_packet_copies_it_once():
    data = bytes(16 * 2**20)
    tracemalloc.start()
    try:
        packet = encode(Packet.WORK_COMPLETE, b"H:1", data)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(packet) > len(data)
    assert peak < 1.1 * len(data)


@pytest.mark.parametrize("cut", range(1, 40))
def test_packets_behind_each_other_may_be_cut_anywhere(cut):
    parts = [
        encode(Packet.JOB_CREATED, b"H:1", response=True),
        encode(Packet.WORK_COMPLETE, b"H:1", b"x" * 100_000, response=True),
        encode(Packet.NOOP, response=True),
    ]
    data = b"".join(parts * 3)
    decoder = Decoder()
    kinds = []
    for start in range(0, len(data), cut * 997):
        decoder.feed(data[start : start + cut * 997])
        kinds += [(kind, len(arguments[-1]) if arguments else 0) for kind, arguments in decoder]
    expected = [(Packet.JOB_CREATED, 3), (Packet.WORK_COMPLETE, 100_000), (Packet.NOOP, 0)]
    assert kinds == expected * 3
