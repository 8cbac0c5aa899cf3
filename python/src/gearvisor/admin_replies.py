# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lists that a job server answers admin commands with, parsed without I/O.

Names in them are what clients and workers sent: they may hold blanks, tabs, line feeds and bytes
that are not UTF-8. As str they are decoded with surrogateescape, so that no two of them look the
same and name.encode(errors="surrogateescape") returns the bytes. Show them to people with
escape.escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_CONNECTION = re.compile(rb"[0-9]{1,10} \S{1,255} ")  # file descriptor, address


class FunctionStatus(NamedTuple):
    """Jobs and workers of one function.

    queued: jobs that wait, running: jobs a worker has now. (gearmand's own TOTAL column is their
    sum.) Foreground jobs whose client has left stay in `queued` until a worker comes upon them.
    workers: connections that can do the function, busy or not.
    """

    queued: int
    running: int
    workers: int


class WorkerConnection(NamedTuple):
    """One connection to the job server; clients are listed too, with no functions.

    fd: the job server's file descriptor for it. client_id: "-" if the peer never set one.
    """

    fd: int
    address: str
    client_id: str
    functions: tuple[str, ...]


def parse_status(reply: bytes) -> dict[str, FunctionStatus]:
    """Return what `status` listed; raises ValueError with a line that is not of such a list."""
    functions: dict[str, FunctionStatus] = {}
    for name, (total, running, workers) in _rows(reply, 3):
        status = FunctionStatus(max(0, total - running), running, workers)
        # A name made to look like two rows must not make another function look idle.
        functions[name] = max(status, functions.get(name, status))
    return functions


def parse_priorities(reply: bytes) -> dict[str, tuple[int, int, int]]:
    """Return what `prioritystatus` listed; raises ValueError as parse_status does."""
    return {name: (high, normal, low) for name, (high, normal, low, _end) in _rows(reply, 4)}


def _rows(reply: bytes, columns: int) -> Iterator[tuple[str, list[int]]]:
    """Return (name, numbers) of each row: a name, which may hold anything, then the numbers."""
    begun: list[bytes] = []  # the lines of a name that holds line feeds
    for line in reply.split(b"\n")[:-1]:
        cells = line.rsplit(b"\t", columns)
        if len(cells) <= columns or not all(_is_count(cell) for cell in cells[1:]):
            begun.append(line)
            continue
        yield text_of(b"\n".join([*begun, cells[0]])), [int(cell) for cell in cells[1:]]
        begun = []
    if begun:
        raise ValueError(text_of(b"\n".join(begun)))


def _is_count(cell: bytes) -> bool:
    return cell.isdigit() and len(cell) <= 10


def parse_workers(reply: bytes, names: Iterable[str] = ()) -> list[WorkerConnection]:
    """Return what `workers` listed; raises ValueError as parse_status does.

    names: function names as `status` has them, to distinguish those with blanks from several names.
    """
    rows: list[list[bytes]] = []
    for line in reply.split(b"\n")[:-1]:
        if _CONNECTION.match(line):
            rows.append([line])
        elif rows:
            rows[-1].append(line)  # of a client id or function name that holds line feeds
        else:
            raise ValueError(text_of(line))
    with_blanks: dict[str, list[list[str]]] = {}
    for name in names:
        words = name.split(" ")
        if len(words) > 1:
            with_blanks.setdefault(words[0], []).append(words)
    connections = []
    for row in _whole(rows):
        fd, address, rest = text_of(b"\n".join(row)).split(" ", 2)
        client_id, colon, functions = rest.partition(" :")
        if not colon:
            raise ValueError(text_of(row[0]))
        words = functions.split(" ")[1:]
        connections.append(
            WorkerConnection(int(fd), address, client_id, tuple(_names(words, with_blanks)))
        )
    return connections


def _whole(rows: list[list[bytes]]) -> list[list[bytes]]:
    """Put what only looks like the begin of a row, in an id or a name, to the row before it."""
    whole: list[list[bytes]] = []
    for row in rows:
        if whole and not (_has_colon(row) and _has_colon(whole[-1])):
            whole[-1] += row
        else:
            whole.append(row)
    return whole


def _has_colon(row: list[bytes]) -> bool:
    return b" :" in b"\n".join(row).split(b" ", 2)[2]


def _names(words: list[str], with_blanks: dict[str, list[list[str]]]) -> Iterator[str]:
    """Put words together to names: to the longest known name that begins there, else alone."""
    start = 0
    while start < len(words):
        fitting = [
            known
            for known in with_blanks.get(words[start], ())
            if words[start : start + len(known)] == known
        ]
        length = max(map(len, fitting), default=1)
        yield " ".join(words[start : start + length])
        start += length


def text_of(data: bytes | bytearray) -> str:
    """Bytes of a reply as str, so that they can be had back: see above."""
    return data.decode(errors="surrogateescape")
