# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terminal of a run shows where its rollout is."""

import json
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.action import gearman_job_server as action


def text(**facts):
    programs = {"resize": {"total": 20, "left": 15}}
    return json.dumps(
        {"fleet": "gearman-worker", "phase": "rollout", "programs": programs, **facts}
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (text(), "gearman-worker is rolled out: resize 5 of 20"),
        (text(programs={}), "gearman-worker is rolled out: begun"),
        (text(phase="roll-back"), "gearman-worker is rolled back: resize 5 of 20"),
        (
            text(
                programs={
                    "b": {"total": 2, "left": 0},
                    "a": {"total": 4, "left": 1, "jobs": 9, "failed": 1},
                }
            ),
            "gearman-worker is rolled out: a 3 of 4 (9 jobs, 1 failed), b 2 of 2",
        ),
        (text(fleet="x\x1b[2J\nok: [host]"), "x?[2J?ok: [host] is rolled out: resize 5 of 20"),
        *(
            (odd, "")
            for odd in ("", "{}", "[]", "null", "nonsense", text(programs=[1]), '{"fleet": 1}')
        ),
        (text(programs={"a": {"total": "x", "left": 1}}), ""),
        (text(programs={"a": {"total": None}}), ""),
    ],
)
def test_line(given, line):
    assert action.rollout_line(given) == line


def test_each_new_line_is_shown_once_while_it_runs(monkeypatch):
    monkeypatch.setattr(action, "ROLLOUT_SECONDS", 0.01)
    answers = iter(["", text(), text(), text(phase="roll-back")])
    seen = []
    with action.shown(lambda: next(answers), seen.append):
        deadline = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert seen == [action.rollout_line(text()), action.rollout_line(text(phase="roll-back"))]
