"""Jobs of two real gearmands with libsqlite3 queues, moved from one to the other."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import Admin
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.connection import (
    Connection,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.errors import (
    GearmanError,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.protocol import (
    Packet,
    encode,
)

GEARMAND = "/usr/sbin/gearmand"
TABLE = "gearman_queue"
SCRIPT = pathlib.Path(__file__).parents[3] / "roles/gearman_job_server/files/queue_file.py"


class Server:
    """A gearmand whose queue is a file; it can be stopped and started."""

    def __init__(self, directory):
        directory.mkdir()
        self.path = str(directory / "queue.sqlite3")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        options = ["--listen=127.0.0.1", f"--port={self.port}", "--log-file=none"]
        queue = ["--queue-type=libsqlite3", f"--libsqlite3-db={self.path}"]
        self.process = subprocess.Popen([GEARMAND, *options, *queue])
        deadline = time.monotonic() + 60
        while True:
            try:
                with Admin(self.address) as admin:
                    return admin.status()
            except GearmanError:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self, number=signal.SIGTERM):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def submit(self, *uniques, priority="normal", function="resize"):
        with Client([self.address]) as client:
            for unique in uniques:
                data = unique.encode() + bytes(range(256))
                client.submit(function, data, background=True, unique=unique, priority=priority)

    def work(self):
        """Do all jobs; return their unique ids in the order in which a worker got them."""
        connection = Connection("127.0.0.1", self.port, 60)
        connection.send(encode(Packet.CAN_DO, b"resize"))
        done = []
        while True:
            connection.send(encode(Packet.GRAB_JOB_UNIQ))
            kind, arguments = connection.receive(60)
            if kind == Packet.NO_JOB:
                connection.finish(60)
                return done
            if kind == Packet.JOB_ASSIGN_UNIQ:
                handle, _function, unique, data = arguments
                assert data == unique + bytes(range(256))
                connection.send(encode(Packet.WORK_COMPLETE, handle, b""))
                done.append(unique.decode())


@pytest.fixture
def servers(tmp_path):
    if not os.path.exists(GEARMAND):
        pytest.skip("Debian's gearman-job-server is not installed")
    made = [Server(tmp_path / "first"), Server(tmp_path / "second")]
    for server in made:
        server.start()
    yield made
    for server in made:
        server.stop()


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_jobs_arrive_once_with_their_priorities(servers, number):
    first, second = servers
    first.submit(*(f"normal-{each}" for each in range(200)))
    first.submit("urgent", priority="high")
    first.submit("late", priority="low")
    second.submit("own", "normal-0")
    for server in servers:
        server.stop(number)
    assert run("count", first.path, TABLE) == {"jobs": 202}
    # A job that both have, by function and unique id, is one job to gearmand.
    assert run("merge", second.path, TABLE, first.path) == {"moved": 201, "known": 1, "jobs": 203}
    # Again, as after a run that was cut off.
    assert run("merge", second.path, TABLE, first.path) == {"moved": 0, "known": 0, "jobs": 203}
    second.start()
    first.start()
    assert first.work() == []
    done = second.work()
    assert sorted(done) == sorted(
        {*(f"normal-{each}" for each in range(200)), "urgent", "late", "own"}
    )
    assert done[0] == "urgent"
    assert done[-1] == "late"
    second.stop()
    assert run("count", second.path, TABLE) == {"jobs": 0}


def test_into_a_queue_that_was_never_used(servers, tmp_path):
    first, _second = servers
    first.submit("one")
    first.stop()
    (tmp_path / "new").mkdir()
    path = tmp_path / "new" / "queue.sqlite3"
    assert run("count", path, TABLE) == {"jobs": 0}
    assert not path.exists()
    assert run("merge", path, TABLE, first.path)["moved"] == 1
    _second.stop()
    _second.path = str(path)
    assert _second.start()["resize"].queued == 1


def test_a_merge_that_is_killed_moved_all_or_nothing(servers, tmp_path):
    first, second = servers
    first.submit(*(f"job-{each}" for each in range(300)))
    for server in servers:
        server.stop()
    environment = {**os.environ, "STEPS": ""}
    program = """
import os, signal, sys, sqlite3
sys.path.insert(0, sys.argv[1])
import queue_file
connection = sqlite3.connect(sys.argv[2], isolation_level=None)
left = int(sys.argv[4])
def step(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
connection.set_trace_callback(step)
queue_file.merge(connection, "gearman_queue", sys.argv[3])
"""
    killed = 0
    for steps in range(100):
        argv = [
            sys.executable,
            "-c",
            program,
            str(SCRIPT.parent),
            second.path,
            first.path,
            str(steps),
        ]
        done = subprocess.run(argv, env=environment)
        counts = [run("count", server.path, TABLE)["jobs"] for server in servers]
        assert sorted(counts) == [0, 300]
        if done.returncode == 0:
            break
        killed += 1
    assert killed > 5
    assert counts == [0, 300]


def test_a_queue_that_is_used_is_left_alone(servers):
    first, second = servers
    first.submit("one")
    writing = sqlite3.connect(first.path, isolation_level=None)
    writing.execute("BEGIN EXCLUSIVE")
    with pytest.raises(subprocess.CalledProcessError):
        run("merge", second.path, TABLE, first.path)
    writing.execute("ROLLBACK")
    writing.close()
