# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing what a job server lists, whatever the names in it hold."""

from __future__ import annotations

import os
import random

import pytest
from gearvisor.admin_replies import (
    FunctionStatus,
    WorkerConnection,
    parse_priorities,
    parse_status,
    parse_workers,
    text_of,
)

REPLIES = 100_000 if os.environ.get("GEARVISOR_TEST_ALL") else 2_000
PIECES = (
    b"\n", b"\t", b" ", b"\r\n", b".\n", b"\n.\n", b"\xff", b"\xed\xa0\x80", b"\x1b[2J", b" : ", b"a",
    b"mail", b"\t1", b"0", b"12 127.0.0.1", "\u202e".encode(), b"-", b"ERR x\n", b"\\", b"'", b'"',
)  # fmt: skip


def odd_name(rng):
    """A name that cannot be distinguished from the end of its row is not among them."""
    while True:
        name = b"".join(rng.choices(PIECES, k=rng.randrange(8)))
        if rng.random() < 0.2:
            name += rng.randbytes(rng.randrange(40)).replace(b"\0", b"")
        if b"\t" not in name or not any(part.count(b"\t") > 2 for part in name.split(b"\n")):
            return name


def test_status_of_any_names():
    rng = random.Random(1)
    for _ in range(REPLIES):
        rows = {odd_name(rng): rng.choices(range(2**32), k=3) for _ in range(rng.randrange(5))}
        reply = b"".join(b"%b\t%d\t%d\t%d\n" % (name, *counts) for name, counts in rows.items())
        assert parse_status(reply) == {
            text_of(name): (max(0, total - running), running, workers)
            for name, (total, running, workers) in rows.items()
        }


def test_workers_of_any_ids_and_names_never_fail():
    rng = random.Random(2)
    for _ in range(REPLIES):
        names = [odd_name(rng) for _ in range(rng.randrange(4))]
        client_id = rng.choice([b"-", b"web1/mail_01#4242", odd_name(rng)])
        row = b"7 127.0.0.1 %b :%b\n" % (client_id, b"".join(b" " + name for name in names))
        ours = b"8 127.0.0.1 web1/mail_02#43 : mail\n"
        connections = parse_workers(row + ours, map(text_of, names))
        assert connections[0].fd == 7
        assert connections[-1] == WorkerConnection(8, "127.0.0.1", "web1/mail_02#43", ("mail",))


@pytest.mark.parametrize("parse", [parse_status, parse_priorities, parse_workers])
def test_any_bytes_are_parsed_or_refused(parse):
    rng = random.Random(3)
    for _ in range(REPLIES):
        reply = b"".join(rng.choices((*PIECES, b"\t1\t2\t3\n", b"1 h - :\n"), k=rng.randrange(12)))
        try:
            parse(reply)
        except ValueError as error:
            assert str(error) is not None


@pytest.mark.parametrize(
    ("functions", "names", "expected"),
    [
        (" a b", (), ("a", "b")),
        ("", (), ()),
        (" send mail a", ["send mail", "a"], ("send mail", "a")),
        (" send mail", ["send", "send mail", "mail"], ("send mail",)),
        (" send now mail", ["send mail"], ("send", "now", "mail")),
        (" odd\nname tab\tx", ["odd\nname", "tab\tx"], ("odd\nname", "tab\tx")),
        (" a :b", ["a :b"], ("a :b",)),
    ],
)
def test_functions_of_a_worker(functions, names, expected):
    (row,) = parse_workers(f"7 10.0.0.1 me :{functions}\n".encode(), names)
    assert row.functions == expected


def test_megabytes_take_no_longer_than_their_size():
    name = b"\t1\n" * 500_000
    assert len(parse_status(name + b"\t1\t0\t0\n")) == 1
    assert parse_workers(b"1 h " + b"x " * 500_000 + b"- :\n")


def test_a_name_made_like_two_rows_does_not_hide_the_jobs_of_another():
    reply = b"mail\t7\t2\t3\nx\t0\t0\t0\nmail\t0\t0\t0\n"
    assert parse_status(reply)["mail"] == FunctionStatus(5, 2, 3)


def test_priorities():
    assert parse_priorities(b"mail\t1\t2\t3\t4\n") == {"mail": (1, 2, 3)}
