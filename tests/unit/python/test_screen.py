# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gearvisor top` prints."""

from __future__ import annotations

import re

import pytest
from gearvisor.screen import document, screen
from views import NOW, down, job, process, server, tally, view, worker

BUSY = view(
    server(resize=(40, 20, 20), mail=(0, 1, 4), oldest=360),
    down(),
    workers=[
        worker("mail_02", rss=14.4),
        worker("mail_01", job=job(since=NOW - 2460), functions={"resize": tally(9, 1, 3, (2, 3, 2))}),
        worker("mail_03", alive=False, job=job(since=NOW - 9, function="odd\n\x1b[2J")),
    ],
    processes=[process("mail_01", failures=2)],
    paused={"old": NOW - 60},
)  # fmt: skip


def test_everything_is_there():
    lines = screen(BUSY, None, 120, 100, False, "web1")
    text = "\n".join(lines)
    assert lines[0].startswith("gearvisor top  web1  20")
    assert lines[1] == "critical: job server 10.0.0.6:4730 does not answer: Connection refused"
    for expected in (
        r"10\.0\.0\.5:4730 +up +1\.1\.21\+ds +6 min +2$",
        r"10\.0\.0\.6:4730 +DOWN",
        r"resize +40 +20 +20 +0\.1 +1\.50 s +1$",
        r"old +0 +0 +0 +0\.0 +- +0 +paused$",
        r"mail_01 +42 +resize +41 min +14 +0 +0 +2$",
        r"mail_02 +42 +idle +- +14 ",
        r"mail_03 +42 +died in odd\\n\\x1b\[2J +9 s ",
    ):
        assert re.search(expected, text, re.MULTILINE), expected
    workers = [line.split()[0] for line in lines if line.startswith("mail_")]
    assert workers == ["mail_01", "mail_03", "mail_02"], "the oldest job first, then the idle"


@pytest.mark.parametrize("workers", [0, 3, 1000])
@pytest.mark.parametrize("functions", [0, 4, 500])
def test_it_fits_80_by_24(workers, functions):
    seen = view(
        *(server(f"10.0.0.{n}:4730", **{f"f{m}": (1, 0, 0) for m in range(functions)})
          for n in range(5)),
        workers=[worker(f"mail_{n:04}" + "x" * 90, job=job()) for n in range(workers)],
    )  # fmt: skip
    lines = screen(seen, None, 80, 24, False, "web1")
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith(("SERVER", "FUNCTION", "WORKER")) for line in lines) == 3
    if workers == 1000:
        assert re.search(r"^WORKER \(\+\d+\) ", "\n".join(lines), re.MULTILINE)


def test_colours_change_nothing_else():
    plain = screen(BUSY, None, 80, 24, False, "web1")
    coloured = screen(BUSY, None, 80, 24, True, "web1")
    assert [re.sub("\x1b\\[[0-9;]*m", "", line) for line in coloured] == plain
    assert "\x1b[1;31mcritical" in "\n".join(coloured)


def test_the_rate_is_that_between_two_views():
    before = view(workers=[worker(functions={"resize": tally(10, 0)})])
    after = before._replace(now=NOW + 2, workers=[worker(functions={"resize": tally(29, 1)})])
    assert document(after, before)["functions"]["resize"]["rate"] == 10
    restarted = before._replace(now=NOW + 2, workers=[worker(functions={"resize": tally(1, 0)})])
    assert document(restarted, before)["functions"]["resize"]["rate"] == 0


def test_the_document_keeps_names_as_they_are():
    shown = document(view(server(**{"odd\n\udcff": (1, 0, 0)})))
    assert list(shown["functions"]) == ["odd\n\udcff"]
    assert shown["processes"] is None
    assert shown["diagnosis"][0]["severity"] == "critical"
