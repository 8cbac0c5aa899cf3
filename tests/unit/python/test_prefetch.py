# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs asked for ahead (docs/decisions/0013): each done once, one at a time, none given back."""

from __future__ import annotations

import collections
import signal
import time

import pytest
from gearvisor.client import Client
from gearvisor.job_runner import SHORT_JOB
from gearvisor.serving import SHORT_JOBS
from gearvisor.worker import Worker

MODULE = """
import os, signal, time

def note(job):
    with open("runs", "a") as file:
        file.write(job.data.decode() + "\\n")
    return job.data

def sometimes_long(job):
    if int(job.data) % 400 == 399:
        time.sleep(0.05)
    return note(job)

def kills(job):
    note(job)
    if job.data == b"poison":
        os.kill(os.getpid(), signal.SIGKILL)

def hold(job):
    while not os.path.exists("go"):
        time.sleep(0.02)
    return note(job)

FUNCTIONS = {each.__name__: each for each in (note, kills, sometimes_long, hold)}
"""


@pytest.fixture
def start(tmp_path, command, wait_until):
    """start(*servers): a worker process that asks ahead, registered with them."""
    (tmp_path / "mine.py").write_text(MODULE)

    def start(*servers, options=("--prefetch", "3", "--job-timeout", "60"), waits=True):
        addresses = [part for each in servers for part in ("--server", each.address)]
        process = command("worker", *addresses, "--client-id", "ahead", *options, "mine")
        for each in servers if waits else ():
            wait_until(lambda each=each: "ahead" in each.worker_ids("note"), "registered")
        return process

    return start


@pytest.fixture
def runs(tmp_path):
    def runs():
        try:
            return collections.Counter((tmp_path / "runs").read_text().split())
        except FileNotFoundError:
            return collections.Counter()

    return runs


def queue(server, function, numbers):
    with Client([server.address], timeout=60) as client:
        for number in numbers:
            client.submit(function, b"%d" % number, background=True)


@pytest.mark.parametrize("function", ["note", "sometimes_long"])
def test_every_job_is_done_once_and_idle_workers_have_one_connection(
    job_server, start, runs, wait_until, function
):
    queue(job_server, function, range(3000))
    start(job_server)
    wait_until(lambda: job_server.status(function)[:2] == (0, 0), "all are done", 60)
    assert runs() == {str(number): 1 for number in range(3000)}
    wait_until(lambda: job_server.worker_ids("note") == ["ahead"], "one connection")


def test_two_connections_while_short_jobs_follow_each_other(job_server, serve, wait_until):
    seen = []

    def look(job):
        if job.data == b"look":
            seen.append(job_server.worker_ids("look"))

    worker = Worker([job_server.address], "ahead", job_timeout=60, prefetch=2, max_jobs=1000,
                    splay=0)  # fmt: skip
    worker.register("look", look)
    with Client([job_server.address], timeout=60) as client:
        for number in range(1000):
            client.submit("look", b"look" if number in (50, 700) else b"", background=True)
    worker.run()
    assert seen[0] == ["ahead"], "not before it has seen enough short jobs"
    assert seen[1] == ["ahead", "ahead"]
    assert worker.counters.total.done == 1000
    job_server.settles("look", 0, 0)


def test_a_job_behind_a_long_one_waits_for_it_and_is_not_given_back(
    tmp_path, job_server, start, runs, wait_until
):
    with Client([job_server.address], timeout=60) as client:
        for number in range(2 * SHORT_JOBS):
            client.submit("note", b"%d" % number, background=True)
        client.submit("hold", b"long", background=True)
        for number in range(1000, 1010):
            client.submit("note", b"%d" % number, background=True)
    start(job_server, options=("--prefetch", "2", "--job-timeout", "60"))
    wait_until(lambda: job_server.status("hold")[1] == 1, "the long job runs", 30)
    time.sleep(20 * SHORT_JOB)
    (tmp_path / "go").touch()
    wait_until(lambda: job_server.status("note")[:2] == (0, 0), "all are done", 30)
    wait_until(lambda: job_server.status("hold")[:2] == (0, 0), "all are done", 30)
    assert set(runs().values()) == {1}
    assert len(runs()) == 2 * SHORT_JOBS + 11


def test_sigterm_in_a_row_loses_and_repeats_nothing(job_server, start, runs, wait_until):
    queue(job_server, "note", range(6000))
    for _ in range(6):
        process = start(job_server)
        before = sum(runs().values())
        # A quick worker that is seldom looked at may have done them all by then.
        enough = min(before + 3 * SHORT_JOBS, 5999)
        wait_until(lambda enough=enough: sum(runs().values()) > enough, "a row")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    start(job_server)
    wait_until(lambda: job_server.status("note")[:2] == (0, 0), "all are done", 60)
    assert runs() == {str(number): 1 for number in range(6000)}


def test_two_job_servers_are_served_in_turn(job_server, other_job_server, start, runs, wait_until):
    queue(job_server, "note", range(2000))
    queue(other_job_server, "note", range(2000, 4000))
    start(job_server, other_job_server)
    for each in (job_server, other_job_server):
        wait_until(lambda each=each: each.status("note")[:2] == (0, 0), "all are done", 60)
    assert runs() == {str(number): 1 for number in range(4000)}


def test_a_job_server_that_is_killed_in_a_row_is_served_again(job_server, start, runs, wait_until):
    queue(job_server, "note", range(3000))
    process = start(job_server)
    wait_until(lambda: sum(runs().values()) > 3 * SHORT_JOBS, "a row")
    job_server.stop()
    job_server.start()
    queue(job_server, "note", range(5000, 5100))
    wait_until(lambda: runs()["5099"] == 1, "served again", 20)
    assert process.poll() is None
    assert set(runs().values()) == {1}


def test_asking_ahead_needs_a_time_limit():
    with pytest.raises(ValueError, match="prefetch 2 needs job_timeout"):
        Worker(["127.0.0.1"], prefetch=2)
    with pytest.raises(ValueError, match="prefetch 0 is not at least 1"):
        Worker(["127.0.0.1"], prefetch=0)


@pytest.mark.parametrize("retries", [1, 2, 3])
def test_a_job_behind_one_that_kills_its_worker_is_not_lost(
    new_job_server, start, runs, wait_until, retries
):
    server = new_job_server(f"--job-retries={retries}")
    queue(server, "kills", range(300))
    with Client([server.address]) as client:
        client.submit("kills", b"poison", background=True)
    queue(server, "kills", range(300, 600))
    options = ("--prefetch", "3", "--job-timeout", "60", "--status-file", "status.json")
    logs = b""
    for _ in range(retries):
        process = start(server, options=options, waits=False)
        assert process.wait(60) == -signal.SIGKILL
        logs += process.communicate()[1]
    start(server, options=options)
    wait_until(lambda: server.status("kills")[:2] == (0, 0), "all are done", 60)
    assert runs() == {"poison": retries, **{str(number): 1 for number in range(600)}}
    assert (b"is requested ahead" in logs) == (retries == 1)
    with server.admin() as admin:
        assert not [name for name in admin.status() if name.startswith("gearvisor-retries")]
