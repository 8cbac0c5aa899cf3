# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is gathered of a host and its job servers, and `gearvisor top` over it."""

from __future__ import annotations

import json
import os
import time

import pytest
from gearvisor import failed_store, observe, status_file
from gearvisor.cli import main
from gearvisor.client import Client


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A separate host, which the commands see, too."""
    for name in ("status/mail", "paused", "failed/mail"):
        (tmp_path / name).mkdir(parents=True)
    places = observe.Places(
        str(tmp_path / "status"), str(tmp_path / "processes.json"), str(tmp_path / "paused"),
        str(tmp_path / "failed"),
    )  # fmt: skip
    monkeypatch.setattr(observe, "Places", lambda: places)
    return places


def test_a_job_server_that_hangs_costs_only_its_own_answer(job_server, peer, closed_port):
    started = time.monotonic()
    servers = observe.ask_all([peer(), job_server.address, closed_port], 5)
    assert time.monotonic() - started < 60
    assert [each.up for each in servers] == [False, True, False]
    assert "no " in servers[0].error and servers[2].error == "Connection refused"
    assert servers[1].version and servers[1].seconds < 5


def test_the_age_of_the_oldest_job(job_server, monkeypatch):
    assert observe.ask_one(job_server.address, 5).oldest is None
    with Client([job_server.address]) as client:
        client.submit("f", background=True, unique="shows-nothing")
        assert observe.ask_one(job_server.address, 5).oldest is None
        client.submit("f", background=True)
        client.submit("f", background=True)
    assert 0 <= observe.ask_one(job_server.address, 5).oldest < 60
    monkeypatch.setattr(observe, "FEW_JOBS", 2)
    assert observe.ask_one(job_server.address, 5).oldest is None, "too many to ask for"


LISTENER = {"pid": os.getpid(), "pid_started": status_file.pid_started(os.getpid())}
PROCESS = {"program": "mail", "name": "mail_01", "state": "RUNNING", "since": 1, "failures": [2, 3]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, None),
        ("", None),
        ("[]", None),
        ('{"processes": [{}]}', None),
        ("[" * 100_000, None),
        ('{"pid": 1, "pid_started": 2, "processes": []}', None),
        (json.dumps({**LISTENER, "processes": []}), []),
        (
            json.dumps({**LISTENER, "processes": [PROCESS]}),
            [observe.Process("mail", "mail_01", "RUNNING", 1.0, (2.0, 3.0))],
        ),
    ],
    ids=range(8),  # the same in each process that runs tests
)
def test_process_states(tmp_path, content, expected):
    path = tmp_path / "processes.json"
    if content is not None:
        path.write_text(content)
    assert observe.processes(str(path)) == expected


ROLLOUT = {**LISTENER, "fleet": "mail", "started": 5, "phase": "rollout"}
STEPS = {"resize": {"total": 8, "left": 6, "batch": ["resize_00"], "jobs": 40, "failed": 2}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, None),
        ("{}", None),
        (json.dumps({**ROLLOUT, "programs": {"resize": {"total": "many", "left": 0}}}), None),
        (json.dumps({**ROLLOUT, "programs": []}), None),
        (
            json.dumps({**ROLLOUT, "programs": STEPS}),
            observe.Rollout("mail", 5.0, "rollout", True, (observe.Step("resize", 8, 6, 40, 2),)),
        ),
        (
            json.dumps({**ROLLOUT, "pid_started": 1, "programs": {}}),
            observe.Rollout("mail", 5.0, "rollout", False),
        ),
    ],
    ids=range(6),  # the same in each process that runs tests
)
def test_rollout(tmp_path, content, expected):
    path = tmp_path / "rollout.json"
    if content is not None:
        path.write_text(content)
    assert observe.rollout(str(path)) == expected


def status(**facts):
    return json.dumps({"process": "mail_01", "pid": os.getpid(), "started": time.time(), **facts})


def test_top_shows_workers_paused_functions_and_failures(places, job_server, tmp_path, capfd):
    (tmp_path / "status/mail/mail_01.json").write_text(status(functions={"resize": {"done": 3}}))
    (tmp_path / "status/mail/broken.json").write_text("{")
    (tmp_path / "status/link").symlink_to(tmp_path)
    (tmp_path / "paused/resize").touch()
    store = failed_store.FailedStore(str(tmp_path / "failed/mail"))
    attempt = dict(unique="u", handle="h", outcome="failed", error="e", traceback=None, started=0,
                   failed=0, worker="w", release=None)  # fmt: skip
    store.add("resize", b"x", attempt)
    assert main(["top", "--once", "--json", "--server", job_server.address]) == 0
    document = json.loads(capfd.readouterr().out)
    assert [each["process"] for each in document["workers"]] == ["mail_01"]
    assert set(document["paused"]) == {"resize"} and document["failed"]["entries"] == 1
    assert document["functions"]["resize"]["paused_since"] is not None
    for command in (["top"], ["top", "--once"], ["status", "--workers"]):
        assert main([*command, "--server", job_server.address]) == 0
        output = capfd.readouterr().out
        assert "mail_01" in output and "resize is paused since" in output
        assert "\x1b" not in output, "colours only at a terminal"
    assert main(["status", "--workers", "--json", "--server", job_server.address]) == 0
    assert json.loads(capfd.readouterr().out)["host"]["paused"]


def test_top_without_any_job_server(places, closed_port, capfd):
    assert main(["top", "--once", "--server", closed_port]) == 3
    assert "does not answer: Connection refused" in capfd.readouterr().out
