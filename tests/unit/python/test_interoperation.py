# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our client with other people's workers, and our worker with their clients.

A peer is a program in peers/ on another library:

    PEER worker HOST:PORT FILE             serves PREFIX-reverse, -store (into FILE), -fail, -raise
                                           and -progress
    PEER client HOST:PORT FUNCTION         submits its standard input and prints what became of it
    PEER background HOST:PORT FUNCTION     the same with a job in the background

Debian's `gearman` is one as it is.
"""

from __future__ import annotations

import base64
import itertools
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gearvisor.client import Client
from gearvisor.errors import JobException, JobFailed

PEERS = Path(__file__).parent / "peers"
COMMANDS = {
    "php": ["php", str(PEERS / "php_peer.php")],
    "pygearman": [sys.executable, str(PEERS / "pygearman_peer.py")],
    "gear": [sys.executable, str(PEERS / "gear_peer.py")],
}
NAMES = ["tool", *COMMANDS]
PAYLOADS = {
    "empty": b"",
    "text": "Grüße".encode(),
    "NUL": b"\0a\0\0",
    "all bytes": bytes(range(256)),
    "100 KiB": bytes(range(256)) * 400,
}


@pytest.fixture(scope="module", autouse=True)
def _peers_are_installed():
    for program, package in (("php", "php-cli and php-gearman"), ("gearman", "gearman-tools")):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing: ./run unit installs it (Debian: {package})")


@pytest.fixture(scope="module")
def their_workers(shared_server, tmp_path_factory):
    """One worker of each peer; returns {name: the file it stores into}."""
    host, port = shared_server.address.split(":")
    folder = tmp_path_factory.mktemp("store")
    stores = {name: folder / name for name in NAMES}
    processes = [
        subprocess.Popen([*command, "worker", shared_server.address, str(stores[name])])
        for name, command in COMMANDS.items()
    ]
    for function, command in {
        "reverse": ["perl", "-0777", "-ne", "print scalar reverse"],
        "store": ["sh", "-c", f"cat >{shlex.quote(str(stores['tool']))}"],
        "fail": ["false"],
    }.items():
        arguments = ["-w", "-h", host, "-p", port, "-f", f"tool-{function}", "--", *command]
        # It complains of every job that its command fails.
        processes.append(subprocess.Popen(["gearman", *arguments], stderr=subprocess.DEVNULL))
    yield stores
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def client(shared_server, their_workers):
    with Client([shared_server.address], timeout=60) as client:
        yield client


def progress(job):
    job.send_status(1, 2)
    job.send_data(b"one \0")
    job.send_data(b"two \xff")
    job.send_status(2, 2)
    return b"three"


def fail(job):
    raise JobFailed("asked to")


def raise_(job):
    raise ValueError("raised by us")


@pytest.fixture
def stored():
    return []


@pytest.fixture
def submit(job_server, serve, stored):
    """submit(name, function, payload): a peer's client submits to our worker; returns the answer."""
    functions = {
        "reverse": lambda job: job.data[::-1],
        "store": lambda job: stored.append(job.data),
        "fail": fail,
        "raise": raise_,
        "progress": progress,
    }
    serve([job_server.address], functions)

    def run(name, function, payload=b"x", role="client", wait=10):
        if name == "tool":
            host, port = job_server.address.split(":")
            command = ["gearman", "-h", host, "-p", port, "-f", function]
            command += ["-b"] if role == "background" else []
        else:
            command = [*COMMANDS[name], role, job_server.address, function]
        try:
            done = subprocess.run(command, input=payload, capture_output=True, timeout=wait)
        except subprocess.TimeoutExpired:
            return {"outcome": "no answer"}
        if name == "tool":
            return {"outcome": "failed" if done.returncode else "done", "result": done.stdout}
        if done.returncode:
            return {"outcome": "no answer", "error": done.stderr}
        answer = json.loads(done.stdout)
        answer["result"] = base64.b64decode(answer.get("result", ""))
        answer["data"] = [base64.b64decode(part) for part in answer.get("data", [])]
        return answer

    return run


# --- Our client, their worker -----------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("name", NAMES)
def test_their_worker_does_our_jobs(client, name, payload):
    data = PAYLOADS[payload]
    for priority in ("high", "normal", "low"):
        assert client.submit(f"{name}-reverse", data, priority=priority).data == data[::-1]


@pytest.mark.parametrize("name", NAMES)
def test_their_worker_does_our_background_jobs(
    client, shared_server, their_workers, wait_until, name
):
    data = PAYLOADS["all bytes"]
    client.submit(f"{name}-store", data, background=True)
    wait_until(lambda: sum(shared_server.status(f"{name}-store")[:2]) == 0, "the job is done")
    assert their_workers[name].read_bytes() == data


@pytest.mark.parametrize("name", NAMES)
def test_their_worker_fails_our_job(client, name):
    with pytest.raises(JobFailed):
        client.submit(f"{name}-fail", b"x")
    assert client.submit(f"{name}-reverse", b"next").data == b"txen"


@pytest.mark.parametrize("name", ["php", "gear"])
def test_their_workers_exception_reaches_us(client, name):
    with pytest.raises(JobException, match=r"^raised by the peer$"):
        client.submit(f"{name}-raise", b"x")
    assert client.submit(f"{name}-reverse", b"next").data == b"txen"


@pytest.mark.parametrize("name", COMMANDS)
def test_their_workers_data_and_status_reach_us(client, name):
    data, status = [], []
    result = client.submit(
        f"{name}-progress",
        b"x",
        on_data=data.append,
        on_status=lambda *progress: status.append(progress),
    )
    assert (data, status) == ([b"one \0", b"two \xff"], [(1, 2), (2, 2)])
    assert result.data == b"three"


# --- Their client, our worker -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "payload"),
    # The PHP extension submits no empty payload.
    [pair for pair in itertools.product(NAMES, PAYLOADS) if pair != ("php", "empty")],
)
def test_our_worker_does_their_jobs(submit, name, payload):
    data = PAYLOADS[payload]
    answer = submit(name, "reverse", data)
    assert (answer["outcome"], answer["result"]) == ("done", data[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_our_worker_does_their_background_jobs(submit, stored, wait_until, name):
    data = PAYLOADS["all bytes"]
    assert submit(name, "store", data, role="background")["outcome"] in ("queued", "done")
    wait_until(lambda: stored, "the job is done")
    assert stored == [data]


@pytest.mark.parametrize("name", NAMES)
def test_our_worker_fails_their_job(submit, name):
    assert submit(name, "fail")["outcome"] == "failed"


@pytest.mark.parametrize("name", ["php", "gear"])
def test_our_workers_exception_reaches_them(submit, name):
    answer = submit(name, "raise")
    assert (answer["outcome"], answer["result"]) == ("exception", b"ValueError: raised by us")


@pytest.mark.parametrize("name", ["tool", "pygearman"])
def test_our_worker_goes_on_after_an_exception_that_they_cannot_take(submit, name):
    """To clients that did not ask for exceptions, as these, gearmand sends WORK_FAIL instead.

    It puts a NUL behind the job's handle there, so the tool takes it for another job's and waits
    on, and pygearman ends with a KeyError.
    """
    submit(name, "raise", wait=0.3)
    assert submit(name, "reverse", b"next")["result"] == b"txen"


@pytest.mark.parametrize("name", COMMANDS)
def test_our_workers_data_and_status_reach_them(submit, name):
    answer = submit(name, "progress")
    assert (answer["outcome"], answer["result"]) == ("done", b"three")
    assert (answer["data"], answer["status"]) == ([b"one \0", b"two \xff"], [2, 2])


def test_our_workers_data_and_status_reach_the_tool(submit):
    answer = submit("tool", "progress")
    assert answer["result"].startswith(b"one \0two \xffthree")
    assert b"50% Complete\n100% Complete\n" in answer["result"]
