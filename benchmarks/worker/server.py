# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job server of its own, and a client, for the benchmarks of workers."""

import socket
import struct
import subprocess
import time

SUBMIT_JOB, JOB_CREATED, WORK_COMPLETE, SUBMIT_JOB_BG = 7, 8, 13, 18
HEADER = struct.Struct(">4sII")


class JobServer:
    """gearmand on a separate port, and a connection to its text protocol."""

    def __init__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            ["/usr/sbin/gearmand", "--listen=127.0.0.1", f"--port={self.port}", "--log-file=none"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._connect, "gearmand")

    def _connect(self):
        try:
            self._admin = socket.create_connection(("127.0.0.1", self.port))
        except ConnectionRefusedError:
            return False
        self._lines = self._admin.makefile("r", newline="\n")
        return True

    def stop(self):
        self.process.kill()
        self.process.wait()

    def _ask(self, command):
        self._admin.sendall(command + b"\r\n")
        return list(iter(self._lines.readline, ".\n"))

    def registered(self):
        """Return the ids of the workers that serve a function."""
        rows = (line.rstrip().partition(" : ") for line in self._ask(b"workers"))
        return {left.split()[2] for left, _colon, functions in rows if functions}

    def idle(self):
        """Return whether no job waits or runs."""
        return all(line.split("\t")[1] == "0" for line in self._ask(b"status"))


class Client:
    """As little of a client as there can be, the same for all workers."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb", buffering=2**16)

    def _packet(self):
        _magic, kind, size = HEADER.unpack(self._stream.read(HEADER.size))
        return kind, self._stream.read(size)

    def _submit(self, kind, payload, number=1):
        body = b"echo\0\0" + payload
        self._socket.sendall((HEADER.pack(b"\0REQ", kind, len(body)) + body) * number)
        for _created in range(number):
            created, _handle = self._packet()
            if created != JOB_CREATED:
                raise SystemExit(f"gearmand answered a job with packet {created}")

    def queue(self, number, payload):
        """Submit background jobs, many in one write."""
        at_once = max(1, min(number, 2**16 // len(payload)))
        while number:
            at_once = min(at_once, number)
            self._submit(SUBMIT_JOB_BG, payload, at_once)
            number -= at_once

    def start(self, payload):
        """Submit a foreground job; finish() waits for its result."""
        self._submit(SUBMIT_JOB, payload)

    def finish(self, payload):
        kind, answer = self._packet()
        if kind != WORK_COMPLETE or answer.partition(b"\0")[2] != payload:
            raise SystemExit(f"A worker answered with packet {kind} and {len(answer)} bytes")


def wait_for(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} was not there in {seconds} s")
        time.sleep(0.001)
