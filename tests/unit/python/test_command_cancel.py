# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cancelling what waits, with payloads kept."""

from __future__ import annotations

import json

import pytest
from gearvisor.cli import main
from gearvisor.client import Client
from gearvisor.failed_store import FailedStore


@pytest.fixture
def run(tmp_path, capfd, job_server):
    def run(*arguments):
        code = main([*arguments, "--directory", str(tmp_path / "mail"), "--server",
                     job_server.address])  # fmt: skip
        output, errors = capfd.readouterr()
        return code, output, errors

    return run


def test_what_waits_is_failed_and_kept(run, job_server, tmp_path, capfd):
    with Client([job_server.address]) as client:
        for number in range(3):
            client.submit("resize", b"\0%d" % number, background=True, unique=f"u{number}")
        client.submit("other", background=True)
    code, output, _ = run("cancel", "resize")
    assert (code, output.split()[0]) == (0, "3")
    assert job_server.status("resize")[:2] == (0, 0) and job_server.status("other")[0] == 1
    assert main(["failed", "list", "--json", "--directory", str(tmp_path)]) == 0
    entries = json.loads(capfd.readouterr().out)["entries"]
    assert {each["unique"] for each in entries} == {"u0", "u1", "u2"}
    assert {each["payload_bytes"] for each in entries} == {2}
    assert json.loads(run("cancel", "--json", "resize")[1]) == {"cancelled": 0}


def test_what_cannot_be_kept_is_not_cancelled(run, job_server, tmp_path):
    (tmp_path / "mail").write_text("")
    with Client([job_server.address]) as client:
        client.submit("resize", background=True)
    code, _, errors = run("cancel", "resize")
    assert code == 1 and "is not cancelled" in errors
    assert job_server.status("resize")[0] == 1


def test_none_is_dropped_however_many_there_are(run, job_server, tmp_path, monkeypatch):
    monkeypatch.setattr("gearvisor.failed_store.TRIM_EVERY", 1)
    bounds = {"keep_payload": True, "max_entries": 2, "max_bytes": 1000}
    monkeypatch.setattr(FailedStore.__init__, "__kwdefaults__", bounds)
    with Client([job_server.address]) as client:
        for number in range(6):
            client.submit("resize", b"%d" % number, background=True, unique=f"u{number}")
    assert run("cancel", "resize")[1].split()[0] == "6"
    assert len(list((tmp_path / "mail").iterdir())) == 6


def test_a_job_that_is_too_large_to_be_kept_stays(run, job_server, monkeypatch):
    monkeypatch.setattr("gearvisor.failed.MAX_PAYLOAD", 10)
    with Client([job_server.address]) as client:
        client.submit("resize", b"x" * 11, background=True)
    code, _, errors = run("cancel", "resize")
    assert code == 1 and "11 bytes" in errors and "it stays" in errors
    assert job_server.status("resize")[0] == 1


def test_a_user_without_a_name_is_asked_for_a_directory(monkeypatch, capfd):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 60577)
    assert main(["cancel", "resize"]) == 2
    assert "--directory" in capfd.readouterr().err
