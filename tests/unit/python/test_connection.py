# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, and connections to peers that are gone, silent or wrong."""

from __future__ import annotations

import signal
import socket
import ssl
import time

import pytest
from gearvisor.connection import Connection, format_server, parse_server
from gearvisor.errors import ProtocolError, ServerUnavailable
from gearvisor.protocol import Packet, encode


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost", "localhost", 4730),
        ("jobs.example.net:4731", "jobs.example.net", 4731),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]", "::1", 4730),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
    ],
)
def test_parses_and_formats_addresses(text, host, port):
    assert parse_server(text) == (host, port)
    assert parse_server(format_server(host, port)) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", ":4730", "host:", "host:0", "host:65536", "host:99999999999", "host:x", "host:-1",
        "host:\u0661", "ho st", "a..b", ".a", "a" * 64, "[::1", "[]:4730", "[::1]4730", "[::1]:",
    ],
)  # fmt: skip
def test_refuses_other_addresses_and_names_them(text):
    with pytest.raises(ValueError, match="job server ") as caught:
        parse_server(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["::1", "::1:4730", "a:b:c"])
def test_an_ipv6_address_needs_brackets(text):
    with pytest.raises(ValueError, match="in brackets"):
        parse_server(text)


def connect(address, timeout=1.0, **options):
    return Connection(*parse_server(address), timeout, **options)


def test_echo(shared_server):
    connection = connect(shared_server.address)
    payload = bytes(range(256)) * 1000
    connection.send(encode(Packet.ECHO_REQ, payload))
    assert connection.receive(60) == (Packet.ECHO_RES, [payload])
    connection.close()


def test_no_packet_is_none_after_the_timeout(shared_server):
    connection = connect(shared_server.address)
    started = time.monotonic()
    assert connection.receive(0.2) is None
    assert 0.15 < time.monotonic() - started < 10
    assert not connection.readable()
    connection.close()


def test_bytes_that_trickle_in_do_not_extend_the_timeout(peer):
    connection = connect(peer(b"\0RES\0\0"))
    started = time.monotonic()
    assert connection.receive(0.2) is None
    assert time.monotonic() - started < 10
    connection.close()


@pytest.fixture
def pair():
    """A connection and the job server's end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = connect(f"127.0.0.1:{listener.getsockname()[1]}")
        accepted, _ = listener.accept()
    with accepted:
        yield connection, accepted
    connection.close()


def test_refused_connection_is_reported_without_numbers(closed_port):
    with pytest.raises(ServerUnavailable) as caught:
        connect(closed_port)
    assert str(caught.value) == f"{closed_port}: Connection refused"
    assert caught.value.server == closed_port


def test_unknown_host_is_named():
    with pytest.raises(ServerUnavailable, match=r"no-such-host.invalid:4730: "):
        connect("no-such-host.invalid")


def test_ipv6():
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        connection = connect(f"[::1]:{listener.getsockname()[1]}")
        accepted, _ = listener.accept()
        accepted.sendall(encode(Packet.NOOP, response=True))
        assert connection.receive(1) == (Packet.NOOP, [])
        accepted.close()
        connection.close()


def test_socket_options(shared_server):
    connection = connect(shared_server.address)
    duplicate = socket.socket(fileno=socket.dup(connection.fileno()))
    assert duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    duplicate.close()
    connection.close()


def test_a_lost_connection_is_closed_and_stays_so(job_server):
    connection = connect(job_server.address)
    job_server.stop()
    with pytest.raises(ServerUnavailable, match=r"closed by the peer|reset"):
        connection.receive(60)
    assert connection.closed
    for use in (lambda: connection.send(b"x"), lambda: connection.receive(0), connection.readable):
        with pytest.raises(ServerUnavailable, match="the connection is closed"):
            use()
    connection.close()


def test_another_protocol_is_an_error_with_the_address(peer):
    address = peer(b"SSH-2.0-OpenSSH_9.2\r\n")
    connection = connect(address)
    with pytest.raises(ProtocolError, match=f"{address}: not the Gearman protocol.*SSH-2.0"):
        connection.receive(1)
    assert connection.closed


def test_sending_may_take_long_but_not_stop(shared_server, slow_link):
    connection = connect(slow_link(shared_server.address, 2_000_000), timeout=0.3)
    connection.stall = 0.5
    payload = bytes(3_000_000)
    connection.send(encode(Packet.ECHO_REQ, payload))
    assert connection.receive(20) == (Packet.ECHO_RES, [payload])
    connection.close()


def test_a_peer_that_takes_nothing_is_given_up(pair):
    connection, _peer = pair
    connection.stall = 0.3
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match="timed out"):
        connection.send(bytes(50_000_000))
    assert time.monotonic() - started < 15
    assert connection.closed


def test_sending_ends_at_its_deadline(shared_server, slow_link):
    connection = connect(slow_link(shared_server.address, 1_000_000))
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match="timed out"):
        connection.send(encode(Packet.ECHO_REQ, bytes(50_000_000)), started + 0.5)
    assert 0.4 < time.monotonic() - started < 15


def test_nothing_follows_a_packet_that_was_broken_off(pair):
    connection, _peer = pair

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            connection.send(bytes(50_000_000))
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ServerUnavailable, match="the connection is closed"):
        connection.send(b"x")


def test_finish_lets_the_peer_read_everything(shared_server):
    connection = connect(shared_server.address)
    for _ in range(50):  # answers that are not read: a plain close would reset the connection
        connection.send(encode(Packet.ECHO_REQ, b"x" * 1000))
    connection.send(encode(Packet.SUBMIT_JOB_BG, b"finish-test", b"u", b""))
    connection.finish(60)
    assert shared_server.status("finish-test")[0] == 1


def test_tls_to_a_peer_without_it_is_unavailable(peer):
    with pytest.raises(ServerUnavailable):
        connect(peer(b"plain text"), ssl_context=ssl.create_default_context())
