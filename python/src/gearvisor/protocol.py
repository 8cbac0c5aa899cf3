# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary protocol of Gearman: bytes to packets and back, without sockets.

Facts are from the PROTOCOL document in gearmand's source tree unless stated otherwise. A packet
is a magic word, its kind and the size of its body (12 bytes, big-endian), then the body: the
arguments with NUL between them. Only the last argument may hold NUL itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

from .errors import ProtocolError

DEFAULT_PORT = 4730  # assigned by IANA

REQUEST = b"\0REQ"  # to the job server
RESPONSE = b"\0RES"  # from the job server

MAX_HANDLE = 63  # bytes; PROTOCOL: 64 with its final NUL
MAX_UNIQUE = 63  # bytes; gearmand 1.1.20 takes 64 but cuts them to 63: then ids fall together
MAX_CLIENT_ID = 127  # bytes; gearmand keeps 128 with the final NUL
MAX_FUNCTION = 512  # bytes; libgearman's GEARMAN_FUNCTION_MAX_SIZE (a queue table holds 255)

# The protocol allows 4 GiB. This bounds what a broken or hostile peer can make us hold.
MAX_PACKET = 256 * 1024 * 1024

_SHORTER = ": give a digest of it, such as hashlib.blake2b(id, digest_size=16).hexdigest()"

_SMALL = 2**16  # bytes of a packet's body that may be copied twice

_HEADER = struct.Struct(">4sII")


class Packet(IntEnum):
    """Packet kinds by their number on the wire."""

    CAN_DO = 1
    CANT_DO = 2
    RESET_ABILITIES = 3
    PRE_SLEEP = 4
    NOOP = 6
    SUBMIT_JOB = 7
    JOB_CREATED = 8
    GRAB_JOB = 9
    NO_JOB = 10
    JOB_ASSIGN = 11
    WORK_STATUS = 12
    WORK_COMPLETE = 13
    WORK_FAIL = 14
    GET_STATUS = 15
    ECHO_REQ = 16
    ECHO_RES = 17
    SUBMIT_JOB_BG = 18
    ERROR = 19
    STATUS_RES = 20
    SUBMIT_JOB_HIGH = 21
    SET_CLIENT_ID = 22
    CAN_DO_TIMEOUT = 23
    ALL_YOURS = 24
    WORK_EXCEPTION = 25
    OPTION_REQ = 26
    OPTION_RES = 27
    WORK_DATA = 28
    WORK_WARNING = 29
    GRAB_JOB_UNIQ = 30
    JOB_ASSIGN_UNIQ = 31
    SUBMIT_JOB_HIGH_BG = 32
    SUBMIT_JOB_LOW = 33
    SUBMIT_JOB_LOW_BG = 34
    SUBMIT_JOB_SCHED = 35
    SUBMIT_JOB_EPOCH = 36
    SUBMIT_REDUCE_JOB = 37
    SUBMIT_REDUCE_JOB_BACKGROUND = 38
    GRAB_JOB_ALL = 39
    JOB_ASSIGN_ALL = 40
    GET_STATUS_UNIQUE = 41
    STATUS_RES_UNIQUE = 42


_NONE = "RESET_ABILITIES PRE_SLEEP NOOP GRAB_JOB NO_JOB ALL_YOURS GRAB_JOB_UNIQ GRAB_JOB_ALL"
_TWO = "ERROR CAN_DO_TIMEOUT WORK_COMPLETE WORK_EXCEPTION WORK_DATA WORK_WARNING"
_THREE = (
    "SUBMIT_JOB SUBMIT_JOB_BG SUBMIT_JOB_HIGH SUBMIT_JOB_HIGH_BG SUBMIT_JOB_LOW SUBMIT_JOB_LOW_BG"
    " JOB_ASSIGN WORK_STATUS"
)
_FOUR = "JOB_ASSIGN_UNIQ SUBMIT_JOB_EPOCH SUBMIT_REDUCE_JOB SUBMIT_REDUCE_JOB_BACKGROUND"

# How many arguments a kind has; the kinds not named in the lists have one.
ARGUMENTS: dict[Packet, int] = dict.fromkeys(Packet, 1)
ARGUMENTS.update((Packet[name], 0) for name in _NONE.split())
ARGUMENTS.update((Packet[name], 2) for name in _TWO.split())
ARGUMENTS.update((Packet[name], 3) for name in _THREE.split())
ARGUMENTS.update((Packet[name], 4) for name in _FOUR.split())
ARGUMENTS[Packet.JOB_ASSIGN_ALL] = 5
ARGUMENTS[Packet.STATUS_RES] = 5
ARGUMENTS[Packet.STATUS_RES_UNIQUE] = 6
ARGUMENTS[Packet.SUBMIT_JOB_SCHED] = 8

_KINDS = {int(kind): (kind, count) for kind, count in ARGUMENTS.items()}


def encode(
    kind: Packet, *arguments: bytes | bytearray | memoryview, response: bool = False
) -> bytes:
    """Return the packet as bytes; `response` makes it one from the job server.

    The arguments are not checked: see check_function and check_unique.
    """
    magic = RESPONSE if response else REQUEST
    if not arguments or len(arguments[-1]) < _SMALL:
        body = b"\0".join(arguments)
        return _HEADER.pack(magic, kind, len(body)) + body
    size = sum(map(len, arguments)) + len(arguments) - 1
    # The last argument is copied once.
    return b"\0".join((_HEADER.pack(magic, kind, size) + arguments[0], *arguments[1:]))


class Decoder:
    """Turns a stream of bytes, cut anywhere, into packets.

    `magic` is the direction to accept: RESPONSE (what a client or worker reads) or REQUEST.
    A packet whose body is over `max_packet` bytes is refused as soon as its header is read. So a
    Decoder never holds more than that and one read, and while it takes a packet apart one copy
    of its last argument. Iterate over it, or call next_packet.

    missing: bytes known to be on their way, of a packet that has begun, after next_packet.
    """

    def __init__(self, magic: bytes = RESPONSE, max_packet: int = MAX_PACKET) -> None:
        self._magic = magic
        self._max_packet = max_packet
        # What was fed from _start on is not taken yet. Mostly it is one whole packet, which then
        # is never copied as a whole; more is gathered in a bytearray.
        self._buffer: bytes | bytearray = b""
        self._start = 0
        self.missing = 0

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the peer."""
        if self._start == len(self._buffer):
            self._buffer, self._start = data, 0
            return
        if isinstance(self._buffer, bytes):
            self._buffer = bytearray(memoryview(self._buffer)[self._start :])
        else:
            del self._buffer[: self._start]
        self._start = 0
        self._buffer += data

    def next_packet(self) -> tuple[Packet, list[bytes]] | None:
        """Return the next packet as its kind and arguments, or None until more bytes are fed.

        Raises ProtocolError on anything else; the Decoder must not be used after that.
        """
        buffer, start = self._buffer, self._start
        if len(buffer) - start < 12:
            if not self._magic.startswith(buffer[start : start + 4]):
                raise _foreign(buffer[start:])
            return None
        magic, number, size = _HEADER.unpack_from(buffer, start)
        if magic != self._magic:
            raise _foreign(buffer[start : start + 12])
        if number not in _KINDS:
            raise ProtocolError(f"packet of unknown kind {number}")
        kind, count = _KINDS[number]
        if size > self._max_packet:
            raise ProtocolError(
                f"{kind.name} of {size} bytes, over the limit of {self._max_packet} bytes"
            )
        start += 12
        end = start + size
        self.missing = end - len(buffer)
        if self.missing > 0:
            return None
        self.missing = 0
        if not count and size:
            raise ProtocolError(f"{kind.name} with {size} bytes of arguments, not none")
        arguments = _arguments(buffer, start, end, count)
        if len(arguments) != count:
            raise ProtocolError(f"{kind.name} with {len(arguments)} of its {count} arguments")
        if end == len(buffer):
            self._buffer, self._start = b"", 0
        else:
            self._start = end
        return kind, arguments

    def __iter__(self) -> Iterator[tuple[Packet, list[bytes]]]:
        while True:
            packet = self.next_packet()
            if packet is None:
                return
            yield packet


def _arguments(buffer: bytes | bytearray, start: int, end: int, count: int) -> list[bytes]:
    """Return at most `count` arguments between two places; the last one is all that is left."""
    if end - start < _SMALL:
        return bytes(buffer[start:end]).split(b"\0", count - 1) if count else []
    arguments = []
    for _argument in range(count - 1):
        at = buffer.find(b"\0", start, end)
        if at < 0:
            break
        arguments.append(bytes(buffer[start:at]))
        start = at + 1
    with memoryview(buffer) as view:
        arguments.append(bytes(view[start:end]))
    return arguments


def _foreign(begin: bytes | bytearray) -> ProtocolError:
    return ProtocolError(f"not the Gearman protocol: it starts with {bytes(begin)!r}")


def check_function(name: str) -> bytes:
    """Return a function name as bytes; raises ValueError when no job server would take it."""
    return _checked("function name", name, MAX_FUNCTION)


def check_unique(unique: str) -> bytes:
    """Return a unique id as bytes; raises ValueError when no job server would take it."""
    return _checked("unique id", unique, MAX_UNIQUE, _SHORTER)


def check_client_id(client_id: str) -> bytes:
    """Return a client id as bytes; raises ValueError when the admin `workers` list would break.

    That list has blanks between its columns, so an id must not hold any.
    """
    encoded = _checked("client id", client_id, MAX_CLIENT_ID)
    if len(client_id.split()) != 1 or client_id.strip() != client_id:
        raise ValueError(f"client id {client_id!r} holds a blank; use - or _ instead")
    return encoded


def _checked(what: str, text: str, limit: int, way_out: str = "") -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{what} {text!r} is not a string")
    encoded = text.encode()
    if not encoded:
        raise ValueError(f"{what} is empty")
    if b"\0" in encoded:
        raise ValueError(f"{what} {text!r} holds a NUL character")
    if len(encoded) > limit:
        raise ValueError(
            f"{what} {text!r} is {len(encoded)} bytes long; the limit is {limit}{way_out}"
        )
    return encoded
