# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What worker processes show of themselves and keep of their jobs, sync and asyncio alike."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
from gearvisor import failed, status_file, unique_ids
from gearvisor.client import Client
from gearvisor.errors import JobException, JobFailed

# Each function both ways: `echo` and `async_echo`, and so on.
MODULE = r"""
import asyncio, os, signal, time
from gearvisor.errors import JobFailed

def echo(job):
    return job.data

def hold(job):
    while not os.path.exists("go"):
        time.sleep(0.02)

def die(job):
    os.kill(os.getpid(), signal.SIGKILL)

def fail(job):
    if job.data == b"failed":
        raise JobFailed("for the log")
    raise ValueError("no such row \x1b[2J\n2026-01-01T00:00:00+0000 INFO forged")

def asynchronous(function):
    async def run(job):
        if function is hold:
            while not os.path.exists("go"):
                await asyncio.sleep(0.02)
            return None
        return function(job)
    return run

FUNCTIONS = {each.__name__: each for each in (echo, hold, die, fail)}
ASYNC = {name: asynchronous(each) for name, each in FUNCTIONS.items()}
"""


@pytest.fixture(params=["sync", "asyncio"])
def kind(request):
    return request.param


@pytest.fixture
def start(tmp_path, job_server, command, kind, wait_until):
    """start(*options): a worker of MODULE, registered; its process."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "theirs.py").write_text("from mine import ASYNC as FUNCTIONS")
    (tmp_path / "failed").mkdir()
    (tmp_path / "paused").mkdir()
    module = "mine" if kind == "sync" else "theirs"
    ids = iter("abcdefgh")

    def start(*options, **more):
        name = next(ids)
        process = command(
            "worker", "--server", job_server.address, "--client-id", name,
            "--status-file", "status.json", "--failed-dir", "failed", "--paused-dir", "paused",
            *options, module, **more,
        )  # fmt: skip
        wait_until(lambda: name in job_server.worker_ids("echo"), "registered")
        return process

    return start


@pytest.fixture
def read(tmp_path):
    def read():
        return status_file.read(str(tmp_path / "status.json"))

    return read


@pytest.fixture
def submit(job_server):
    def submit(function, data=b"", **options):
        with Client([job_server.address], timeout=60) as client:
            return client.submit(function, data, **options)

    return submit


def entries(tmp_path):
    found = []
    for name in sorted(os.listdir(tmp_path / "failed")):
        content = (tmp_path / "failed" / name).read_bytes()
        found.append(failed.parse(content, failed.id_of(name)))
    return found


def test_the_status_shows_the_process_and_the_job_in_progress(
    tmp_path, start, read, submit, wait_until, job_server
):
    process = start(
        "--max-jobs", "50", "--splay", "0", "--job-timeout", "60",
        env={"GEARVISOR_WORKER": "web1/mail_03", "SUPERVISOR_GROUP_NAME": "mail_03",
             "GEARVISOR_RELEASE": "releases/7"},
    )  # fmt: skip
    made = unique_ids.make()
    result = submit("hold", unique=made, background=True)
    job = wait_until(lambda: read()["job"], "the job is there")
    assert (job["function"], job["handle"], job["unique"]) == ("hold", result.handle, made)
    assert abs(job["since"] - time.time()) < 15 and 0 <= job["wait"] < 15
    (tmp_path / "go").touch()
    wait_until(lambda: read()["job"] is None, "the job is over")
    submit("echo", unique="not-by-time")
    status = wait_until(lambda: read()["done"] == 2 and read(), "counted")
    assert (status["program"], status["process"], status["release"]) == (
        "mail", "mail_03", "releases/7",
    )  # fmt: skip
    assert (status["language"], status["pid"]) == ("python", process.pid)
    assert status_file.is_alive(status)
    assert status["limits"] == {
        "max_jobs": 50, "max_seconds": None, "max_rss": None, "job_timeout": 60, "stop_timeout": None
    }  # fmt: skip
    assert 5 < status["rss"] < 200
    assert status["waits"]["count"] == 1, "only of ids that contain their time"
    assert status["functions"]["hold"]["waits"]["count"] == 1
    assert status["servers"] == {job_server.address: True}


def test_a_job_that_kills_its_worker_is_known_at_the_next_start(
    tmp_path, start, read, submit, wait_until, job_server
):
    process = start()
    submit("die", background=True, unique="poison")
    assert process.wait(60) == -signal.SIGKILL
    left = read()
    assert (left["job"]["function"], left["job"]["unique"]) == ("die", "poison")
    assert not status_file.is_alive(left)
    with job_server.admin() as admin:
        admin.cancel(left["job"]["handle"])
    process = start("--log-format", "json")
    wait_until(lambda: read()["died"] == 1, "counted")
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=60)[1].decode().splitlines()
    (line,) = [json.loads(each) for each in log if "died in job" in each]
    assert line["level"] == "error"
    assert (line["function"], line["unique"], line["outcome"]) == ("die", "poison", "died")
    assert f"died in job {left['job']['handle']} of function die, unique poison" in line["message"]


def test_failed_jobs_are_kept_with_all_that_is_needed_to_try_again(
    tmp_path, start, submit, kind, read, wait_until
):
    start(env={"GEARVISOR_RELEASE": "releases/7"})
    with pytest.raises(JobException):
        submit("fail", b"\0payload", unique="one")
    with pytest.raises(JobFailed):
        submit("fail", b"failed", unique="two")
    first, second = entries(tmp_path)
    assert (first["function"], first["unique"], first["outcome"]) == ("fail", "one", "exception")
    assert failed.payload_of(first) == b"\0payload"
    assert first["error"].startswith("ValueError: no such row")
    assert "def fail" in first["traceback"] or "in fail" in first["traceback"]
    assert (first["worker"], first["release"]) == ("a", "releases/7")
    assert first["handle"].startswith("H:") and first["started"] <= first["failed"]
    assert (second["outcome"], second["error"]) == ("failed", "JobFailed: for the log")
    with pytest.raises(JobException):
        submit("fail", b"\0payload", unique=failed.retry_unique(first["id"], 2))
    first, second = entries(tmp_path)
    assert [each["unique"] for each in first["attempts"]] == ["one", f"gvr:{first['id']}:2"]
    wait_until(lambda: read()["failed_jobs"]["kept"] == 3, "counted")


def test_payloads_can_be_left_out(tmp_path, start, submit):
    start("--failed-payload", "no")
    with pytest.raises(JobException):
        submit("fail", b"secret")
    (entry,) = entries(tmp_path)
    assert (entry["payload"], entry["payload_bytes"]) == (None, 6)


def test_a_failure_that_cannot_be_kept_is_reported_logged_and_counted(
    tmp_path, start, submit, read, wait_until
):
    process = start()
    (tmp_path / "failed").rmdir()
    with pytest.raises(JobException, match="no such row"):
        submit("fail")
    assert submit("echo", b"on").data == b"on"
    wait_until(lambda: read()["failed_jobs"]["unwritten"] == 1, "counted")
    process.send_signal(signal.SIGTERM)
    assert b"cannot be kept in failed: " in process.communicate(timeout=60)[1]


def test_log_jobs_logs_start_and_end_with_the_unique_id_and_no_forged_lines(start, submit):
    process = start("--log-jobs")
    submit("echo", unique="good\x1b[2J")
    with pytest.raises(JobException):
        submit("fail", unique="bad")
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=60)[1].decode()
    assert re.search(r"^\S+ INFO job H:\S+ of echo, unique good\\x1b\[2J, starts$", log, re.M)
    assert re.search(r"^\S+ INFO job H:\S+ of echo, unique good\S+, done in 0\.\d+ s$", log, re.M)
    assert re.search(r"^\S+ INFO job H:\S+ of fail, unique bad, exception in \S+ s$", log, re.M)
    assert "\x1b" not in log
    assert not re.search(r"^2026-01-01", log, re.M)


def test_a_paused_function_is_left_alone_until_it_is_resumed(
    tmp_path, start, submit, read, wait_until, job_server
):
    process = start()
    submit("echo", b"before")
    (tmp_path / "paused" / "echo").touch()
    wait_until(lambda: "a" not in job_server.worker_ids("echo"), "paused")
    waiting = submit("echo", b"meanwhile", background=True)
    assert waiting.handle
    with pytest.raises(JobFailed):
        submit("fail", b"failed")  # other functions are served
    job_server.settles("echo", 1, 0)
    wait_until(lambda: read()["paused"] == ["echo"], "shown")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    (tmp_path / "paused" / "echo").unlink()
    start()
    wait_until(lambda: job_server.status("echo")[:2] == (0, 0), "served again")


def test_a_pause_survives_a_restart_of_the_worker(
    tmp_path, command, start, submit, wait_until, job_server, kind
):
    process = start()
    (tmp_path / "paused" / "echo").touch()
    wait_until(lambda: "a" not in job_server.worker_ids("echo"), "paused")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    command(
        "worker", "--server", job_server.address, "--client-id", "z", "--paused-dir", "paused",
        "--status-file", "status.json", "mine" if kind == "sync" else "theirs",
    )  # fmt: skip
    wait_until(lambda: "z" in job_server.worker_ids("fail"), "registered")
    assert "z" not in job_server.worker_ids("echo")
    (tmp_path / "paused" / "echo").unlink()
    wait_until(lambda: "z" in job_server.worker_ids("echo"), "resumed")


def test_a_job_in_hand_is_not_run_twice_by_a_pause(
    tmp_path, start, submit, read, wait_until, job_server
):
    start()
    submit("hold", background=True, unique="held")
    wait_until(lambda: read()["job"], "the job runs")
    (tmp_path / "paused" / "hold").touch()
    time.sleep(1.5)
    assert job_server.status("hold")[:2] == (0, 1)
    (tmp_path / "go").touch()
    wait_until(lambda: job_server.status("hold")[:2] == (0, 0), "done")
    wait_until(lambda: read()["paused"] == ["hold"], "paused")
    wait_until(lambda: read()["done"], "counted")
    assert read()["functions"]["hold"]["done"] == 1


def test_limits_end_both_workers_alike(start, submit):
    process = start("--max-jobs", "2", "--splay", "0")
    submit("echo")
    submit("echo")
    assert process.wait(60) == 0
    assert b"leaving: the most jobs for one process reached" in process.communicate()[1]


def test_max_rss_ends_no_worker_before_its_first_job(start, submit):
    process = start("--max-rss", "1")
    time.sleep(0.7)
    assert process.poll() is None
    submit("echo")
    assert process.wait(60) == 0
    assert b"leaving: the most memory for one process reached" in process.communicate()[1]


def test_stop_timeout_leaves_without_the_running_job(start, submit, read, wait_until):
    process = start("--stop-timeout", "0.3")
    submit("hold", background=True)
    wait_until(lambda: read()["job"], "the job runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert read()["job"]["function"] == "hold"


@pytest.mark.parametrize("kind", ["asyncio"])
def test_concurrency_is_the_number_of_jobs_at_once_and_the_status_shows_each(
    tmp_path, start, submit, read, wait_until, job_server
):
    start("--concurrency", "3")
    handles = [submit("hold", background=True).handle for _ in range(5)]
    wait_until(lambda: len(status_file.running(read())) == 3, "three jobs in progress")
    assert job_server.status("hold")[:2] == (2, 3)
    running = status_file.running(read())
    assert {job["handle"] for job in running} <= set(handles)
    assert [job["since"] for job in running] == sorted(job["since"] for job in running)
    (tmp_path / "go").touch()
    wait_until(lambda: read()["functions"]["hold"]["done"] == 5, "all are done")
    assert status_file.running(read()) == []
