# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The diagnosis, as a table: what is seen, and what the operator reads."""

from __future__ import annotations

import pytest
from gearvisor.diagnosis import diagnose, duration
from gearvisor.observe import Rollout, Step
from views import NOW, down, job, process, server, tally, view, worker

CASES = {
    "nothing": (view(), "ok: all is well: 0 jobs run, 0 wait"),
    "work": (view(server(resize=(3, 2, 5))), "ok: all is well: 2 jobs run, 3 wait"),
    "no worker": (
        view(server(resize=(40, 0, 0))),
        "critical: no worker serves resize; 40 jobs waiting",
    ),
    "a name of a stranger": (
        view(server(**{"odd\n\x1b[2J": (1, 0, 0)})),
        "critical: no worker serves odd\\n\\x1b[2J; 1 job waiting",
    ),
    "a long name": (
        view(server(**{"x" * 500: (1, 0, 0)})),
        f"critical: no worker serves {'x' * 37}...; 1 job waiting",
    ),
    "all busy": (
        view(server(resize=(40, 20, 20), oldest=360)),
        "warning: 20 of 20 workers of resize are busy; 40 jobs waiting; the oldest job is 6 min old",
    ),
    "all busy for a moment": (
        view(server(resize=(1, 20, 20), oldest=2)),
        "notice: 20 of 20 workers of resize are busy; 1 job waiting",
    ),
    "over two job servers": (
        view(server(resize=(3, 5, 10)), server("b:4730", resize=(0, 5, 10))),
        "ok: all is well: 10 jobs run, 3 wait",
    ),
    "none takes the jobs": (
        view(server(resize=(4, 0, 2), oldest=120)),
        "warning: none of the 2 workers of resize takes its jobs: busy with other functions, or"
        " stuck; 4 jobs waiting; the oldest job is 2 min old",
    ),
    "paused": (
        view(server(resize=(7, 0, 0)), paused={"resize": NOW - 3600 * 5}),
        "warning: resize is paused since 5 h on this host; 7 jobs waiting",
    ),
    "paused, nothing to do": (
        view(paused={"resize": NOW - 30}),
        "notice: resize is paused since 30 s on this host; nothing waits",
    ),
    "a rollout": (
        view(
            rollout=Rollout(
                "mail", NOW - 50, "rollout", True, (Step("resize", 8, 6, 40, 2), Step("scan", 2, 0))
            )
        ),
        "notice: mail is rolled out, since 50 s\n"
        "notice: resize: 2 of 8 processes begun; its first batch did 40 jobs, 2 of them failed\n"
        "notice: scan: 2 of 2 processes begun",
    ),
    "a roll-back": (
        view(rollout=Rollout("mail", NOW - 5, "roll-back", True)),
        "notice: mail is rolled back, since 5 s",
    ),
    "a rollout that was cut off": (
        view(rollout=Rollout("mail", NOW - 90, "rollout", False, (Step("resize", 8, 6),))),
        "warning: a rollout of mail was cut off; run its play again to finish it",
    ),
    "a job server is down": (
        view(server(), down()),
        "critical: job server 10.0.0.6:4730 does not answer: Connection refused",
    ),
    "restarts": (
        view(processes=[process(f"mail_{n}", failures=3 * (n < 12)) for n in range(20)]),
        "critical: 12 of 20 processes of mail restart again and again",
    ),
    "backoff": (
        view(processes=[process(state="BACKOFF")]),
        "critical: 1 of 1 processes of mail restart again and again",
    ),
    "one crash is not again and again": (
        view(processes=[process(failures=1)]),
        "ok: all is well: 0 jobs run, 0 wait",
    ),
    "given up": (
        view(processes=[process(), process("mail_02", "FATAL", 9)]),
        "critical: 1 of 2 processes of mail are given up by Supervisor (FATAL); see their logs",
    ),
    "died in a job": (
        view(workers=[worker(alive=False, job=job(unique="order-17"))]),
        "critical: mail_01 died in a job of resize, unique id order-17",
    ),
    "died before": (
        view(workers=[worker(died=3)]),
        "warning: 3 times a worker of this host died in a job; see their logs",
    ),
    "left in order": (view(workers=[worker(alive=False)]), "ok: all is well: 0 jobs run, 0 wait"),
    "a long job": (
        view(workers=[worker(job=job(since=NOW - 2460)), worker("mail_02", job=job())]),
        "warning: a job of resize runs for over 10 min, the longest for 41 min in mail_01",
    ),
    "long jobs": (
        view(workers=[worker(f"w{n}", job=job(since=NOW - 1000 - n)) for n in range(3)]),
        "warning: 3 jobs of resize run for over 10 min, the longest for 17 min in w2",
    ),
    "failures": (
        view(workers=[worker(functions={"resize": tally(10, 30)})]),
        "warning: 30 of the last 40 jobs of resize failed; see `gearvisor failed list`",
    ),
    "few failures": (
        view(workers=[worker(functions={"resize": tally(90, 10)})]),
        "ok: all is well: 0 jobs run, 0 wait",
    ),
    "a leak": (
        view(workers=[worker(f"w{n}", rss=1200.0 if n == 2 else 40.0) for n in range(3)]),
        "warning: w2 uses 1200 MiB, 30.0 times what is usual for its program; does it leak?",
    ),
    "over its limit": (
        view(workers=[worker(rss=70.0, limits={"max_rss": 64.0})]),
        "warning: mail_01 uses 70 MiB, over its limit of 64 MiB, at which it leaves after its job",
    ),
    "not connected": (
        view(workers=[worker(servers={"a:1": False}), worker("b", servers={"a:1": True})]),
        "warning: 1 of 2 workers of this host are not connected to a:1",
    ),
    "not kept": (
        view(workers=[worker(failed_jobs={"kept": 0, "dropped": 0, "unwritten": 12})]),
        "warning: 12 failed jobs could not be kept; see their workers' logs",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_diagnosis(case):
    seen, expected = CASES[case]
    assert [f"{each.severity}: {each.text}" for each in diagnose(seen)] == expected.split("\n")


def test_the_worst_comes_first():
    seen = view(server(a=(1, 0, 0), b=(0, 0, 0)), down(), paused={"b": NOW})
    assert [each.severity for each in diagnose(seen)] == ["critical", "critical", "notice"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (360, "6 min"), (3600, "60 min"),
     (7200, "2 h"), (86400, "24 h"), (172800, "2 d")],
)  # fmt: skip
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_numbers_of_strangers_do_not_end_it():
    facts = [-(2.0**62), -1.0, 0.0, 1.0, 2.0**62]
    seen = view(workers=[worker(f"mail_{n}", rss=rss) for n, rss in enumerate(facts)])
    assert diagnose(seen)
