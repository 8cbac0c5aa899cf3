# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of workers and of the protocol, by the table of cases that PHP has to pass, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gearvisor import limits, protocol
from gearvisor.limits import Limits, MaxRss

CASES = json.loads((Path(__file__).parents[1] / "limits_cases.json").read_text())
NAMES = {
    "max_jobs": "the most jobs",
    "max_seconds": "the most seconds",
    "max_rss": "the most memory",
    None: None,
}


@pytest.mark.parametrize("case", CASES["worker"] + CASES["splay"], ids=json.dumps)
def test_limits_are_reached_as_in_the_table(monkeypatch, case):
    monkeypatch.setattr(limits, "resident", lambda: case["rss"])
    now = [1000.0]
    these = Limits(
        **case["limits"], splay=case.get("splay", 0), share=lambda: case.get("random", 0)
    )
    these.start(lambda: now[0])
    now[0] += case["seconds"]
    assert these.reached(case["jobs"]) == NAMES[case["reached"]]
    assert bool(these) == bool(case["limits"])


@pytest.mark.parametrize("case", CASES["protocol"], ids=json.dumps)
def test_what_is_too_long_for_a_job_server_is_refused_with_the_limit(case):
    check = {
        "unique id": protocol.check_unique,
        "client id": protocol.check_client_id,
        "function name": protocol.check_function,
    }[case["what"]]
    text = "x" * case["bytes"]
    if case["fits"]:
        assert check(text) == text.encode()
    else:
        with pytest.raises(ValueError, match=rf"{case['bytes']} bytes long; the limit is \d+"):
            check(text)


def test_seconds_left_are_those_until_a_limit_is_reached():
    now = [10.0]
    these = Limits(max_jobs=3, max_seconds=60)
    these.start(lambda: now[0])
    now[0] = 30.0
    assert these.seconds_left() == 40
    assert Limits(max_jobs=3).seconds_left() == float("inf")


def test_memory_is_looked_at_a_few_times_a_second():
    looks, now = [], [0.0]

    def memory():
        looks.append(None)
        return 1.0

    limit = MaxRss(100, memory, lambda: now[0])
    for _ in range(1000):
        now[0] += 0.001
        limit.reached(1)
    assert len(looks) <= 5


def test_memory_that_cannot_be_looked_at_is_no_reason_to_leave():
    def memory():
        raise OSError(24, "Too many open files")

    assert MaxRss(1, memory).reached(5) is None
