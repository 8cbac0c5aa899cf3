# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log lines of `gearvisor worker`."""

from __future__ import annotations

import json
import re
import signal

import pytest
from gearvisor.client import Client
from gearvisor.errors import GearmanError


@pytest.fixture
def log_of(job_server, command):
    """log_of(*options): what a worker writes that serves one job of each outcome."""

    def run(*options):
        process = command(
            "worker", "--server", job_server.address, "--client-id", "me", "--job-timeout", "0.2",
            *options, "gearvisor.reference", env={"TZ": "Asia/Kolkata"},
        )  # fmt: skip
        with Client([job_server.address], timeout=60) as client:
            for function, data in (
                ("echo", b""),
                ("fail", b""),
                ("fail", b"x\ny"),
                ("sleep", b"9"),
            ):
                try:
                    client.submit(function, data)
                except GearmanError:
                    pass
        process.send_signal(signal.SIGTERM)
        return process.communicate(timeout=60)[1].decode()

    return run


def test_text_is_for_people_in_utc(log_of):
    lines = log_of().splitlines()
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000 INFO serving 127\.0\.0\.1:\d+ as me$",
                    lines[0])  # fmt: skip
    assert any(
        re.match(r"^\S+ WARNING job H:\S+ of fail failed: asked to$", line) for line in lines
    )
    assert not any("DEBUG" in line for line in lines)


def test_json_is_one_object_a_line_with_the_job_in_fields(log_of):
    lines = [json.loads(line) for line in log_of("--log-format", "json", "--log-level", "debug")
             .splitlines()]  # fmt: skip
    assert all({"time", "level", "message", "worker"} <= set(line) for line in lines)
    assert {line["worker"] for line in lines} == {"me"}
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", lines[0]["time"])
    jobs = [line for line in lines if "outcome" in line]
    assert [(job["function"], job["outcome"], job["level"]) for job in jobs] == [
        ("echo", "done", "debug"),
        ("fail", "failed", "warning"),
        ("fail", "exception", "error"),
        ("sleep", "timeout", "error"),
    ]
    assert all(job["handle"].startswith("H:") and job["seconds"] >= 0 for job in jobs)
    assert "RuntimeError: x\ny" in jobs[2]["traceback"]
    assert jobs[3]["seconds"] >= 0.2


def test_a_line_break_in_an_error_makes_no_line_of_its_own_in_json(log_of):
    lines = log_of("--log-format", "json").splitlines()
    assert all(line.startswith("{") and line.endswith("}") for line in lines)
