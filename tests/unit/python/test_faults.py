# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults under load, with real job servers and worker processes: jobs in against results out."""

from __future__ import annotations

import collections
import random
import select
import signal
import socket
import threading
import time

import pytest
from gearvisor.client import Client
from gearvisor.errors import JobTimeout, ServerUnavailable

MODULE = """
import os, subprocess, sys, time

def note(job):
    with open("runs", "a") as file:
        file.write(job.data.decode() + "\\n")
    return job.data

def slow_note(job):
    time.sleep(0.005)
    return note(job)

def prints(job):
    print("on standard output", flush=True)
    print("on standard error", file=sys.stderr, flush=True)
    return b"printed"

def forks(job):
    if os.fork() == 0:
        return b"of the child"
    os.wait()
    return b"of the parent"

def forks_and_exits(job):
    child = os.fork()
    if child == 0:
        sys.exit(7)
    return b"%d" % os.WEXITSTATUS(os.waitpid(child, 0)[1])

def forks_and_raises(job):
    child = os.fork()
    if child == 0:
        raise RuntimeError("of the child")
    return b"%d" % os.WEXITSTATUS(os.waitpid(child, 0)[1])

def runs_a_program(job):
    return subprocess.run(["rev"], input=job.data, capture_output=True, check=True).stdout

def length(job):
    return b"%d" % len(job.data)

def echo(job):
    return job.data

FUNCTIONS = {name: each for name, each in list(globals().items()) if callable(each)}
"""


@pytest.fixture
def module(tmp_path):
    (tmp_path / "mine.py").write_text(MODULE)


@pytest.fixture
def runs(tmp_path):
    """How often each job was run to its end."""

    def runs():
        try:
            return collections.Counter((tmp_path / "runs").read_text().split())
        except FileNotFoundError:
            return collections.Counter()

    return runs


class Callers:
    """Threads that submit foreground jobs named 0, 1, ... and keep what comes of each."""

    def __init__(self, servers, function, threads, jobs, timeout):
        self.answers = {}
        self.failures = {}
        self._names = iter(map(str, range(jobs)))
        self._lock = threading.Lock()
        arguments = (servers, function, timeout)
        self._threads = [
            threading.Thread(target=self._call, args=arguments) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def _call(self, servers, function, timeout):
        client = Client(servers, timeout=timeout)
        while True:
            with self._lock:
                name = next(self._names, None)
            if name is None:
                return client.close()
            try:
                result = client.submit(function, name.encode())
                assert name not in self.answers
                self.answers[name] = result.data.decode()
            except (ServerUnavailable, JobTimeout) as error:
                self.failures[name] = error

    def running(self):
        return any(thread.is_alive() for thread in self._threads)

    def join(self, seconds):
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        assert not self.running(), "a call neither came back nor timed out"


# What functions do to their worker


@pytest.mark.parametrize(
    ("function", "data", "expected"),
    [
        ("prints", b"", b"printed"),
        ("forks", b"", b"of the parent"),
        ("forks_and_exits", b"", b"7"),
        ("forks_and_raises", b"", b"1"),
        ("runs_a_program", b"abc", b"cba"),
    ],
)
def test_a_function_that_does_odd_things_is_answered_once(
    job_server, command, module, function, data, expected
):
    process = command("worker", "--server", job_server.address, "mine")
    with Client([job_server.address], timeout=60) as client:
        assert client.submit(function, data).data == expected
        # The connection is still the worker's alone, and no second answer is on its way.
        assert client.submit("echo", b"next").data == b"next"
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert b"stopped: 2 jobs done, 0 failed" in log
    assert b"replied with an error" not in log


# Payloads


def test_a_payload_of_64_mib(job_server, command, module):
    command("worker", "--server", job_server.address, "mine")
    payload = random.Random(1).randbytes(64 * 2**20)
    with Client([job_server.address], timeout=60) as client:
        assert client.submit("echo", payload).data == payload


class Relay:
    """Forwards connections to a job server; can trickle, freeze (half-open) and cut them."""

    def __init__(self, port):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.frozen = False
        self.chunk = 65536  # bytes at a time
        self._port = port
        self._pairs = []
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while self._open:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                continue
            self._pairs.append((near, far))
            threading.Thread(target=self._forward, args=(near, far), daemon=True).start()

    def _forward(self, near, far):
        other = {near: far, far: near}
        try:
            while self._open:
                if self.frozen:
                    time.sleep(0.02)
                    continue
                for each in select.select([near, far], [], [], 0.1)[0]:
                    data = each.recv(self.chunk)
                    if not data:
                        return
                    other[each].sendall(data)
        except (OSError, ValueError):
            pass  # cut
        finally:
            near.close()
            far.close()

    def cut(self):
        for pair in self._pairs:
            for each in pair:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self._pairs.clear()

    def close(self):
        self._open = False
        self._listener.close()
        self.cut()


@pytest.fixture
def relay(job_server):
    relay = Relay(job_server.port)
    yield relay
    relay.close()


def test_payloads_that_trickle_in_both_ways(relay, command, module):
    relay.chunk = 777
    command("worker", "--server", relay.address, "mine")
    payload = random.Random(2).randbytes(2**20)
    with Client([relay.address], timeout=60) as client:
        assert client.submit("echo", payload).data == payload


def test_a_half_open_connection_holds_up_nobody_else(
    wait_until, job_server, other_job_server, relay, command, module
):
    """Neither the jobs of another job server for long, nor a client that can choose."""
    worker = command(
        "worker", "--server", relay.address, "--server", other_job_server.address, "mine"
    )
    wait_until(lambda: job_server.worker_ids("echo"), "registered")
    wait_until(lambda: other_job_server.worker_ids("echo"), "registered")
    relay.frozen = True
    slowest = 0.0
    with Client([other_job_server.address], timeout=60) as client:
        for _ in range(60):
            slowest = max(slowest, client.submit("echo", b"x").seconds)
            time.sleep(0.05)
    # Unless it froze between a question and its answer, which costs one wait of 5 s.
    assert slowest < 6
    with Client([relay.address, other_job_server.address], connect_timeout=0.5) as client:
        assert client.submit("echo", b"x", timeout=10).server == other_job_server.address
    relay.cut()
    relay.frozen = False
    with Client([relay.address], timeout=60) as client:
        assert client.submit("echo", b"back").data == b"back"
    assert worker.poll() is None


# Job servers and workers that die under load


def test_a_paused_job_server_loses_nothing(
    wait_until, job_server, other_job_server, command, module, runs
):
    servers = [job_server, other_job_server]
    options = [part for each in servers for part in ("--server", each.address)]
    workers = [command("worker", *options, "mine") for _ in range(2)]
    wait_until(lambda: all(len(each.worker_ids("note")) == 2 for each in servers), "registered")
    callers = [Callers([each.address], "slow_note", 2, 300, 30) for each in servers]
    wait_until(lambda: len(callers[0].answers) > 50, "jobs flow")
    job_server.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(10)
        assert len(callers[0].answers) < 300
        assert all(worker.poll() is None for worker in workers)
    finally:
        job_server.process.send_signal(signal.SIGCONT)
    for each in callers:
        each.join(60)
        assert each.failures == {}
        assert each.answers == {str(number): str(number) for number in range(300)}
    assert sum(runs().values()) == 600


def test_killed_workers_lose_no_background_job(wait_until, job_server, command, module, runs):
    names = [str(number) for number in range(1500)]
    with Client([job_server.address], timeout=60) as client:
        for name in names:
            client.submit("slow_note", name.encode(), background=True)
    workers = [command("worker", "--server", job_server.address, "mine") for _ in range(3)]
    for round_ in range(6):
        before = sum(runs().values())
        wait_until(lambda before=before: sum(runs().values()) > before + 40, "jobs are done")
        workers[round_ % 3].kill()
        workers[round_ % 3].wait()
        workers[round_ % 3] = command("worker", "--server", job_server.address, "mine")
    wait_until(lambda: job_server.status("slow_note")[:2] == (0, 0), "the queue is empty", 60)
    counts = runs()
    assert set(counts) == set(names), "none lost"
    # Each kill can catch one job between its note and its result.
    assert sum(counts.values()) <= len(names) + 6


def test_job_servers_killed_under_load_answer_each_call_once_or_fail_it(
    wait_until, job_server, other_job_server, command, module
):
    servers = [job_server, other_job_server]
    addresses = [each.address for each in servers]
    options = [part for each in addresses for part in ("--server", each)]
    workers = [command("worker", *options, "mine") for _ in range(2)]
    wait_until(lambda: all(len(each.worker_ids("note")) == 2 for each in servers), "registered")
    callers = Callers(addresses, "slow_note", 4, 1200, 10)
    for round_ in range(4):
        before = len(callers.answers)
        wait_until(lambda before=before: len(callers.answers) > before + 100, "answers come")
        servers[round_ % 2].stop()
        time.sleep(0.3)
        servers[round_ % 2].start()
    callers.join(60)
    assert len(callers.answers) + len(callers.failures) == 1200
    assert all(name == answer for name, answer in callers.answers.items()), "each its own answer"
    # A kill fails at most the calls that were under way: one a thread.
    assert len(callers.failures) <= 4 * 4
    # The workers are the same, and serve both again.
    assert all(worker.poll() is None for worker in workers)
    for each in servers:
        wait_until(lambda each=each: len(each.worker_ids("note")) == 2, "registered again", 15)
