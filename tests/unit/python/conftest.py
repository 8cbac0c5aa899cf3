# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real job servers, worker processes and broken peers for the tests of the Python package."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import gearvisor
import pytest
from gearvisor.admin import Admin
from gearvisor.worker import Worker

GEARMAND = "/usr/sbin/gearmand"
SOURCES = Path(gearvisor.__file__).parents[1]


def _wait_until(condition, what, seconds=60):
    """Poll until condition() is true; returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


@pytest.fixture
def wait_until():
    return _wait_until


class JobServer:
    """A separate gearmand on a loopback port that stays the same over restarts."""

    def __init__(self, *options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.options = options
        self.process = None
        self.folder = None

    def start(self):
        self.folder = tempfile.mkdtemp()
        self.process = subprocess.Popen(
            [GEARMAND, "--listen=127.0.0.1", f"--port={self.port}", "--threads=1",
             "--log-file=none", f"--pid-file={self.folder}/pid", "--verbose=FATAL", *self.options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _wait_until(self._listens, f"gearmand on {self.address}")
        return self

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"gearmand left with exit code {self.process.returncode}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            shutil.rmtree(self.folder)

    def admin(self):
        return Admin(self.address)

    def connections(self):
        with self.admin() as admin:
            return admin.workers()

    def status(self, function):
        with self.admin() as admin:
            return admin.status().get(function, (0, 0, 0))

    def settles(self, function, *counts):
        """Wait until gearmand has noticed what became of a worker: its jobs waiting, running, its workers."""
        _wait_until(lambda: self.status(function)[: len(counts)] == counts, f"{function}: {counts}")

    def worker_ids(self, function):
        return [each.client_id for each in self.connections() if function in each.functions]


@pytest.fixture(scope="session", autouse=True)
def _gearmand_is_installed():
    if not os.access(GEARMAND, os.X_OK):
        pytest.fail(
            f"{GEARMAND} is missing: these tests talk to a real job server."
            " `./run test` runs them where it is installed (Debian: gearman-job-server)."
        )


@pytest.fixture(scope="session")
def shared_server():
    server = JobServer().start()
    yield server
    server.stop()


@pytest.fixture
def new_job_server():
    """Call it with options of gearmand for a job server of this test alone."""
    started = []

    def start(*options):
        started.append(JobServer(*options).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def job_server(new_job_server):
    return new_job_server()


@pytest.fixture
def other_job_server(new_job_server):
    return new_job_server()


class WorkerThread:
    """A Worker that runs until the test ends."""

    def __init__(self, servers, functions, **options):
        self.worker = Worker(servers, **options)
        for name, function in functions.items():
            self.worker.register(name, function)
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def stop(self):
        self.worker.stop()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the worker does not stop"
        return self.worker


@pytest.fixture
def serve():
    """serve(servers, functions, **options): start a worker in a thread."""
    running = []

    def start(servers, functions, **options):
        running.append(WorkerThread(servers, functions, **options))
        return running[-1]

    yield start
    for worker in running:
        worker.stop()


@pytest.fixture
def command(tmp_path):
    """command(*arguments): start `gearvisor` as a separate process in tmp_path."""
    processes = []

    def start(*arguments, **options):
        environment = {**os.environ, "PYTHONPATH": str(SOURCES), **options.pop("env", {})}
        process = subprocess.Popen(
            [sys.executable, "-m", "gearvisor", *map(str, arguments)],
            cwd=tmp_path, env=environment, stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
            # What a shell starts in the background ignores it, and so would what that starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def peer():
    """peer(says, resets): a peer that is not a job server. It sends `says` to each connection, then
    waits, or resets it.

    Returns its "host:port".
    """
    sockets = []

    def start(says=b"", resets=False):
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                sockets.append(connection)
                try:
                    connection.sendall(says)
                    if resets:
                        linger = struct.pack("ii", 1, 0)  # on, for 0 s: see socket(7)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                        connection.close()
                except OSError:
                    pass  # the other side had enough

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        each.close()


@pytest.fixture
def closed_port():
    """A "host:port" where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def slow_link():
    """slow_link(address, rate): an address that leads there, at `rate` bytes a second each way."""
    sockets = []

    def forward(source, target, rate):
        try:
            while data := source.recv(rate // 20):
                target.sendall(data)
                time.sleep(len(data) / rate)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one side has left

    def start(address, rate):
        host, _, port = address.rpartition(":")
        listener = socket.create_server(("127.0.0.1", 0))
        # What waits in buffers is through for its sender.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        sockets.append(listener)

        def accept():
            while True:
                try:
                    near, _ = listener.accept()
                    far = socket.create_connection((host, int(port)))
                except OSError:
                    return
                sockets.extend([near, far])
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=forward, args=(*ends, rate), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for each in sockets:
        each.close()
