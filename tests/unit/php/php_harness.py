# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts and stops a real gearmand and the real PHP worker and client."""

from __future__ import annotations

import json
import pathlib
import socket
import struct
import subprocess
import time

GEARMAND = "/usr/sbin/gearmand"
PHP_FOLDER = pathlib.Path(__file__).resolve().parents[3] / "php"
WORKER = str(PHP_FOLDER / "worker.php")
CLIENT = str(PHP_FOLDER / "client.php")

LEFT_JOB = 75  # the exit code of a worker that left in the middle of a job

SUBMIT_JOB, JOB_CREATED, WORK_COMPLETE, WORK_FAIL = 7, 8, 13, 14


def wait_until(condition, seconds=60.0, what="the condition"):
    """The first true value of condition(), polled."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true in {seconds} s")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class JobServer:
    """gearmand on a free loopback port; it can be stopped and started again on the same port."""

    def __init__(self):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [GEARMAND, "--listen=127.0.0.1", f"--port={self.port}", "--log-file=none"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.answers, what=f"gearmand on {self.address}")
        return self

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def answers(self):
        try:
            return self.connect().close() is None
        except OSError:
            return False

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, command):
        """The lines of the answer to an administrative command."""
        with self.connect() as connection, connection.makefile("rwb") as stream:
            stream.write(command + b"\r\n")
            stream.flush()
            return list(iter(lambda: stream.readline().decode(), ".\n"))

    def workers(self):
        """Client id -> functions, of the connections that serve any."""
        rows = [line.split(" : ") for line in self.ask(b"workers") if " : " in line]
        return {left.split()[2]: right.split() for left, right in rows}

    def status(self):
        """Function -> [jobs waiting or running, jobs running, workers]."""
        rows = [line.split("\t") for line in self.ask(b"status")]
        return {name: [int(number) for number in numbers] for name, *numbers in rows}

    def settles(self, function, counts):
        """Wait until gearmand has noticed what became of a worker: see status()."""
        wait_until(lambda: self.status()[function] == counts, what=f"{function}: {counts}")

    def wait_for_worker(self, client_id, seconds=60.0):
        wait_until(
            lambda: client_id in self.workers(), seconds, f"worker {client_id} at {self.address}"
        )

    def submit(self, function, data=b""):
        """(packet type, result): the PHP extension cannot submit an empty payload, this can."""
        body = function.encode() + b"\0\0" + data
        with self.connect() as connection, connection.makefile("rwb") as stream:
            stream.write(b"\0REQ" + struct.pack(">II", SUBMIT_JOB, len(body)) + body)
            stream.flush()
            kind = JOB_CREATED
            while kind == JOB_CREATED:
                _magic, kind, size = struct.unpack(">4sII", stream.read(12))
                answer = stream.read(size)
        return kind, answer.partition(b"\0")[2]


class PhpWorker:
    """worker.php as a child process, its log in a file; *before*: options of php itself."""

    def __init__(self, log, servers, *options, client_id="worker-1", script=WORKER, before=()):
        self.client_id = client_id
        self.log_file = log
        arguments = ["php", *before, script]
        arguments += ["--client-id", client_id] if client_id is not None else []
        arguments += [word for server in servers for word in ("--server", server.address)]
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                [*arguments, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def log(self):
        return self.log_file.read_text()

    def entries(self):
        """The log of a worker with --log-format=json."""
        return [json.loads(line) for line in self.log().splitlines()]

    def wait_for_log(self, text, seconds=60.0):
        wait_until(lambda: text in self.log(), seconds, f"{text!r} in the log")

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def run_php(*arguments, data=b"", env=None):
    return subprocess.run(
        ["php", *arguments], input=data, capture_output=True, timeout=60, env=env, check=False
    )
