from __future__ import annotations

import ipaddress
import os
import socket

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.process import Process
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import ports


def proc_net(*sockets):
    """Text like /proc/net/tcp's, of (local address, state, inode)."""
    title = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode"
    lines = [
        f"{number:4}: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000"
        f"   102        0 {inode} 1 0000000000000000 100 0 0 10 0"
        for number, (local, state, inode) in enumerate(sockets)
    ]
    return "\n".join([title, *lines]) + "\n"


# As a little-endian Linux 6.1 prints them; the second is an established connection.
TCP = proc_net(
    ("0100007F:127A", "0A", 993634), ("0100007F:127A", "01", 993700), ("00000000:0016", "0A", 12345)
)
TCP6 = proc_net(
    ("00000000000000000000000000000000:127A", "0A", 5),
    ("00000000000000000000000001000000:127B", "0A", 6),
    ("0000000000000000FFFF00000100007F:127C", "0A", 7),
)


def listener(address, port=4730, inode="1"):
    return ports.Listener(ipaddress.ip_address(address), port, inode)


def test_parse_listeners(monkeypatch):
    monkeypatch.setattr(ports.sys, "byteorder", "little")
    assert ports.parse_listeners(TCP) == [
        listener("127.0.0.1", 4730, "993634"),
        listener("0.0.0.0", 22, "12345"),
    ]
    assert ports.parse_listeners(TCP6) == [
        listener("::", 4730, "5"),
        listener("::1", 4731, "6"),
        listener("127.0.0.1", 4732, "7"),
    ]
    assert ports.parse_listeners("") == []
    assert ports.parse_listeners(proc_net() + "garbage\n") == []


@pytest.mark.parametrize(
    ("ours", "theirs", "conflict"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "10.0.0.5", True),
        ("127.0.0.1", "10.0.0.5", False),
        # Theirs usually takes IPv4 too; gearmand's own never does.
        ("127.0.0.1", "::", True),
        ("::", "0.0.0.0", False),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "::1", False),
        ("::", "::1", True),
    ],
)
def test_conflicts(ours, theirs, conflict):
    found = ports.conflicts([ipaddress.ip_address(ours)], 4730, [listener(theirs)])
    assert bool(found) is conflict
    assert ports.conflicts([ipaddress.ip_address(ours)], 4731, [listener(theirs)]) == []


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


LOOPBACK = [ipaddress.ip_address("127.0.0.1")]


def test_a_taken_port_is_refused_with_its_holder(server):
    port = server.getsockname()[1]
    with pytest.raises(InvalidOption) as caught:
        ports.check_free(LOOPBACK, port)
    assert f"port: {port} is taken on 127.0.0.1 by " in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert caught.value.details["pid"] == os.getpid()


def test_ones_own_port_is_fine(server):
    ports.check_free(LOOPBACK, server.getsockname()[1], Process(os.getpid()))


def test_a_free_port_is_fine(server):
    port = server.getsockname()[1]
    server.close()
    ports.check_free(LOOPBACK, port)


def host_with(tmp_path, text):
    """A /proc in which no socket has a visible owner."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(text)
    (tmp_path / "7" / "fd").mkdir(parents=True)
    return str(tmp_path)


def test_sockets_of_an_unseen_holder_are_ours_only_on_our_port(tmp_path, monkeypatch):
    monkeypatch.setattr(ports.sys, "byteorder", "little")
    proc = host_with(tmp_path, TCP)
    own = Process(7, proc)
    ports.check_free(LOOPBACK, 4730, own, 4730, proc=proc)
    for port in (4731, None):
        with pytest.raises(InvalidOption, match="cannot be seen"):
            ports.check_free(LOOPBACK, 4730, own, port, proc=proc)
    with pytest.raises(InvalidOption, match="cannot be seen"):
        ports.check_free(LOOPBACK, 4730, proc=proc)


def test_local_addresses():
    assert ports.local_addresses("127.0.0.1") == LOOPBACK
    assert ports.local_addresses("0.0.0.0") == [ipaddress.ip_address("0.0.0.0")]
    assert set(LOOPBACK) <= set(ports.local_addresses("localhost"))


@pytest.mark.parametrize("listen", ["192.0.2.77", "no-such-host.invalid", "a..b", "300.1.1.1"])
def test_an_address_of_another_host_is_refused(listen):
    with pytest.raises(InvalidOption, match="listen"):
        ports.local_addresses(listen)


def test_privileged_ports(tmp_path):
    file = tmp_path / "sys/net/ipv4/ip_unprivileged_port_start"
    file.parent.mkdir(parents=True)
    file.write_text("1024\n")
    ports.check_privilege(1024, proc=str(tmp_path))
    with pytest.raises(InvalidOption, match=r"port: 1023 .* use 1024 or more"):
        ports.check_privilege(1023, proc=str(tmp_path))
    file.write_text("0\n")
    ports.check_privilege(80, proc=str(tmp_path))
