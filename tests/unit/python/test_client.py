# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submitting jobs, against real job servers and workers."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from gearvisor import client as client_module
from gearvisor.client import Client
from gearvisor.errors import (
    JobException,
    JobFailed,
    JobTimeout,
    ServerUnavailable,
)
from gearvisor.protocol import Packet, encode
from gearvisor.reference import FUNCTIONS

GREETING = encode(Packet.OPTION_RES, b"exceptions", response=True)


def chatty(job):
    job.send_status(1, 2)
    job.send_data(b"one ")
    job.send_warning(b"careful")
    job.send_data(b"two ")
    job.send_status(2, 2)
    return b"three"


@pytest.fixture
def server(shared_server, serve):
    serve([shared_server.address], {**FUNCTIONS, "chatty": chatty})
    return shared_server


@pytest.fixture
def client(server):
    with Client([server.address], timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    "payload",
    [b"", b"hello", bytes(range(256)), b"\0\0", bytes(range(256)) * 4096],
    ids=["empty", "text", "all bytes", "NUL", "1 MiB"],
)
@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_round_trip(client, server, payload, priority):
    result = client.submit("reverse", payload, priority=priority)
    assert result.data == payload[::-1]
    assert result.handle.startswith("H:")
    assert result.server == server.address
    assert 0 < result.seconds < 10
    assert len(result.unique) == 36


def test_a_made_unique_id_differs_each_time(client):
    assert client.submit("echo").unique != client.submit("echo").unique


def test_fail(client):
    with pytest.raises(JobFailed):
        client.submit("fail")
    assert client.submit("echo", b"next").data == b"next"


def test_exception_carries_its_text(client):
    with pytest.raises(JobException, match="RuntimeError: the disk is full"):
        client.submit("fail", b"the disk is full")
    assert client.submit("echo", b"next").data == b"next"


def test_fail_whose_handle_ends_with_nul(peer):
    """So gearmand reports an exception to a client that could not turn on `exceptions`."""
    created = encode(Packet.JOB_CREATED, b"H:1", response=True)
    address = peer(GREETING + created + encode(Packet.WORK_FAIL, b"H:1\0", response=True))
    with pytest.raises(JobFailed, match=r"^job H:1 failed$"):
        Client([address], timeout=2).submit("f")


def test_data_and_status_go_to_the_callbacks(client):
    data, warnings, status = [], [], []
    result = client.submit(
        "chatty",
        on_data=data.append,
        on_warning=warnings.append,
        on_status=lambda *progress: status.append(progress),
    )
    assert (data, warnings, status) == ([b"one ", b"two "], [b"careful"], [(1, 2), (2, 2)])
    assert result.data == b"three"


def test_data_without_a_callback_is_part_of_the_result(client):
    assert client.submit("chatty").data == b"one two three"


def test_background_returns_at_once_and_the_job_is_done(client, server):
    started = time.monotonic()
    result = client.submit("sleep", b"4", background=True)
    assert time.monotonic() - started < 4
    assert result.data == b"" and result.handle
    while sum(server.status("sleep")[:2]):
        time.sleep(0.02)
    assert time.monotonic() - started >= 4


def test_same_unique_id_is_one_job(client):
    first = client.submit("waits-for-nobody", unique="same", background=True)
    second = client.submit("waits-for-nobody", unique="same", background=True)
    assert first.handle == second.handle


def test_timeout_covers_all_of_it_and_the_client_can_go_on(client):
    started = time.monotonic()
    with pytest.raises(JobTimeout):
        client.submit("sleep", b"5", timeout=0.2)
    assert time.monotonic() - started < 5
    assert client.submit("echo", b"next").data == b"next"


def test_timeout_covers_sending(shared_server, slow_link):
    address = slow_link(shared_server.address, 1_000_000)
    started = time.monotonic()
    with Client([address]) as client, pytest.raises(JobTimeout, match=f"{address} did not take"):
        client.submit("nobody", bytes(50_000_000), timeout=0.5, background=True)
    assert 0.4 < time.monotonic() - started < 15


def test_a_short_timeout_is_of_one_submission_alone(job_server):
    with Client([job_server.address]) as client:
        client.submit("nobody", timeout=0.3, background=True)
        job_server.process.send_signal(signal.SIGSTOP)
        threading.Timer(1.5, job_server.process.send_signal, [signal.SIGCONT]).start()
        assert client.submit("nobody", bytes(30_000_000), background=True).handle


@pytest.mark.parametrize("background", [False, True])
def test_a_silent_peer_is_unavailable_in_time(peer, background):
    address = peer()
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match=f"{address}: no answer in 0.2"):
        Client([address]).submit("echo", timeout=0.2, background=background)
    assert time.monotonic() - started < 5


def test_a_job_server_that_never_queues_the_job(peer, monkeypatch):
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT", 0.2)
    with pytest.raises(ServerUnavailable, match=r"did not queue the job in 0.2 s"):
        Client([peer(GREETING)]).submit("echo")
    with pytest.raises(JobTimeout):
        Client([peer(GREETING)], timeout=0.1).submit("echo")


def test_a_peer_that_never_pauses_does_not_hold_us(peer):
    noops = encode(Packet.NOOP, response=True) * 3_000_000
    started = time.monotonic()
    with pytest.raises(JobTimeout):
        Client([peer(GREETING + noops)], timeout=0.2).submit("echo")
    assert time.monotonic() - started < 15


def test_another_protocol_is_unavailable(peer):
    with pytest.raises(ServerUnavailable, match="not the Gearman protocol"):
        Client([peer(b"HTTP/1.0 400 Bad Request\r\n")]).submit("echo")


def test_failover_passes_the_dead_the_silent_and_the_wrong(client, server, closed_port, peer):
    servers = [closed_port, peer(), peer(b"220 mail.example.net ESMTP\r\n"), server.address]
    for _ in range(6):
        with Client(servers, connect_timeout=0.2) as several:
            result = several.submit("reverse", b"abc", timeout=10)
        assert (result.data, result.server) == (b"cba", server.address)


def test_all_servers_away_names_each_with_its_reason(closed_port, peer):
    silent = peer()
    with pytest.raises(ServerUnavailable) as caught:
        Client([closed_port, silent], connect_timeout=0.2).submit("echo")
    assert f"{closed_port}: Connection refused" in str(caught.value)
    assert f"{silent}: no answer in 0.2" in str(caught.value)


def test_a_restarted_server_is_found_again_without_an_error(job_server):
    with Client([job_server.address], timeout=60) as client:
        assert client.submit("f", background=True).handle
        job_server.stop()
        job_server.start()
        assert client.submit("f", background=True).handle


def test_a_server_lost_while_a_job_runs_is_reported(job_server, serve):
    serve([job_server.address], {"kill": lambda job: job_server.stop()})
    started = time.monotonic()
    with pytest.raises(ServerUnavailable):
        Client([job_server.address]).submit("kill")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"function": ""}, "function name is empty"),
        ({"function": "a\0b"}, "NUL"),
        ({"function": "f", "unique": ""}, "unique id is empty"),
        ({"function": "f", "unique": "u" * 64}, "the limit is 63"),
        ({"function": "f", "priority": "urgent"}, "'urgent' is not one of high, normal, low"),
        ({"function": "f", "data": "text"}, "data is str, not bytes"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_sent(closed_port, arguments, says):
    with pytest.raises(ValueError, match=says):
        Client([closed_port]).submit(**arguments)


@pytest.mark.parametrize("servers", [[], "127.0.0.1", ["host:port"]])
def test_bad_servers_are_refused(servers):
    with pytest.raises(ValueError):
        Client(servers)
