# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Peers that are not job servers: libgearman, which they crash or keep busy, must never see them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time

import pytest
from php_harness import wait_until

NOOP = b"\0RES" + struct.pack(">II", 6, 0)

# name: (what it sends at once, what it sends again and again, words of the log)
PEERS = {
    "garbage": (os.urandom(4096), b"", "is not a job server"),
    "garbage without end": (b"\xff" * 64, b"\xff" * 65536, "is not a job server"),
    "noops without end": (NOOP, NOOP * 4096, "is not a job server, it sent '\\x00RES"),
    "web server": (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"",
        "it sent 'HTTP/1.1 400 Bad Request\\r",
    ),
    "text protocol": (b"OK 1.1.20\n", b"", "it sent 'OK 1.1.20"),
    "a packet of 4 GiB": (
        b"\0RES" + struct.pack(">II", 17, 0xFFFFFFFF),
        b"",
        "is not a job server",
    ),
    "terminal codes": (b"\x1b[2J\x9b", b"", r"it sent '\x1b[2J\x9b'"),
    "silence": (b"", b"", "no answer from"),
    "half an answer": (b"\0RES\0\0", b"", "no answer from"),
}


@contextlib.contextmanager
def peer(first, again):
    """Listens on a free port; yields its address and the list of connections it took."""
    taken = []
    over = threading.Event()

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            connection.sendall(first)
            while not over.is_set():
                connection.sendall(again) if again else over.wait(0.05)

    def accept():
        while not over.is_set():
            with contextlib.suppress(OSError):
                connection, _address = listener.accept()
                connection.settimeout(1)
                taken.append(time.monotonic())
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", taken
        finally:
            over.set()
            thread.join()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", PEERS)
def test_worker(new_worker, name):
    first, again, words = PEERS[name]
    with peer(first, again) as (address, taken):
        worker = new_worker([], f"--server={address}", wait=False)
        worker.wait_for_log(words, seconds=60)
        before, start = cpu_seconds(worker.process.pid), time.monotonic()
        wait_until(lambda: len(taken) >= 4, 20, "a fourth try")
        assert cpu_seconds(worker.process.pid) - before < 0.2 * (time.monotonic() - start) + 0.1
        # One line, however often it tries; tries at growing distance.
        assert worker.log().count("trying again") == 1, worker.log()
        worker.process.terminate()
        start = time.monotonic()
        assert worker.process.wait(timeout=60) == 0
        assert "leaves: SIGTERM" in worker.log()


def test_worker_serves_the_job_server_beside_it(new_server, new_worker, client):
    server = new_server()
    with peer(NOOP, NOOP * 4096) as (address, _taken):
        worker = new_worker([server], f"--server={address}")
        for _number in range(20):
            assert client(server, "--timeout=60", "reverse", "abc").stdout == b"cba"
        assert "is not a job server" in worker.log()


@pytest.mark.parametrize("name", PEERS)
def test_client(name, client):
    first, again, words = PEERS[name]
    with peer(first, again) as (address, _taken):
        done = client(None, f"--server={address}", "reverse", "abc")
    assert (done.returncode, done.stdout) == (3, b""), done
    assert words.encode() in done.stderr and address.encode() in done.stderr
