# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters of a worker, and the file that shows them to monitors."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from gearvisor.client import Client
from gearvisor.counters import write_status_file
from gearvisor.errors import JobException, JobFailed
from gearvisor.protocol import Packet, encode


@pytest.fixture
def read(tmp_path):
    def read():
        try:
            return json.loads((tmp_path / "status.json").read_text())
        except FileNotFoundError:
            return None

    return read


@pytest.fixture
def worker(tmp_path, job_server, command):
    return command(
        "worker", "--server", job_server.address, "--status-file", "status.json",
        "--client-id", "me", "gearvisor.reference",
    )  # fmt: skip


def test_the_status_file_counts_and_goes_with_the_worker(wait_until, read, job_server, worker):
    started = time.time()
    with Client([job_server.address], timeout=60) as client:
        for _ in range(3):
            client.submit("echo", b"x")
        client.submit("sleep", b"0.2")
        with pytest.raises(JobFailed):
            client.submit("fail")
        with pytest.raises(JobException):
            client.submit("fail", b"text")
    status = wait_until(lambda: (read() or {}).get("failed") == 2 and read(), "two failures")
    assert status["client_id"] == "me"
    assert status["pid"] == worker.pid
    assert started - 5 < status["started"] <= status["updated"] <= time.time()
    assert status["servers"] == {job_server.address: True}
    assert (status["done"], status["failed"]) == (4, 2)
    functions = status["functions"]
    assert (functions["echo"]["done"], functions["echo"]["failed"]) == (3, 0)
    assert (functions["fail"]["done"], functions["fail"]["failed"]) == (0, 2)
    assert 0.2 <= functions["sleep"]["seconds"] <= status["seconds"] < time.time() - started

    job_server.stop()
    wait_until(lambda: read()["servers"] == {job_server.address: False}, "the server is away")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert read() is None


def test_an_idle_worker_writes_each_second_and_a_busy_one_does_not(
    wait_until, read, job_server, worker
):
    """So its age shows how long a worker has been in one job."""
    first = wait_until(read, "written")
    wait_until(lambda: read()["updated"] >= first["updated"] + 1.5, "written again", 4)
    with Client([job_server.address], timeout=60) as client:
        client.submit("sleep", b"2.5")
        assert time.time() - read()["updated"] < 1.5  # written when the job was over
        result = client.submit("sleep", b"3", background=True)
        wait_until(lambda: client.status(result).running, "the job runs")
    time.sleep(2.2)
    assert time.time() - read()["updated"] > 1.5


def test_it_is_written_while_a_job_server_does_not_answer(wait_until, read, peer, command):
    address = peer(encode(Packet.ECHO_RES, b"gearvisor", response=True))
    command("worker", "--server", address, "--status-file", "status.json", "gearvisor.reference")
    wait_until(read, "written")
    time.sleep(3)  # it was asked for a job, and sends nothing
    assert time.time() - read()["updated"] < 2
    assert read()["servers"] == {address: False}


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "status.json"
    write_status_file(str(path), {"done": 1})
    with open(path) as reader:
        write_status_file(str(path), {"done": 2})
        assert json.load(reader) == {"done": 1}
    assert json.loads(path.read_text()) == {"done": 2}
    assert os.listdir(tmp_path) == ["status.json"]


def test_a_status_file_that_cannot_be_written_is_a_usage_error(job_server, command):
    process = command(
        "worker", "--server", job_server.address, "--status-file", "missing/status.json",
        "gearvisor.reference",
    )  # fmt: skip
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"--status-file missing/status.json: No such file or directory. Name a file" in errors


def test_a_folder_that_goes_away_later_is_logged_once(wait_until, tmp_path, job_server, command):
    (tmp_path / "gone").mkdir()
    process = command(
        "worker", "--server", job_server.address, "--status-file", "gone/status.json",
        "gearvisor.reference",
    )  # fmt: skip
    status = tmp_path / "gone/status.json"
    wait_until(status.exists, "written")
    wait_until(lambda: job_server.worker_ids("echo"), "registered")
    # Not between the two steps of a write.
    wait_until(lambda: [*status.parent.iterdir()] == [status], "settled")
    os.rename(tmp_path / "gone", tmp_path / "elsewhere")
    time.sleep(3.2)
    with Client([job_server.address], timeout=60) as client:
        assert client.submit("echo", b"x").data == b"x"
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert log.count(b"cannot write the status file") == 1
