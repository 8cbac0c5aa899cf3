# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on which TCP port of this host, from /proc/net/tcp and /proc/net/tcp6."""

from __future__ import annotations

import glob
import ipaddress
import os
import socket
import sys
from typing import NamedTuple

from ..failure import InvalidOption
from ..host.files import read_text
from ..host.process import Process

_LISTEN = "0A"


class Listener(NamedTuple):
    """A listening socket; *inode* is what /proc/PID/fd/N links to."""

    address: object
    port: int
    inode: str


def parse_listeners(text):
    """Return [Listener] of the text of /proc/net/tcp or /proc/net/tcp6.

    The layout is in the kernel's Documentation/networking/proc_net_tcp.rst: an address is printed
    as 32-bit words in the machine's own byte order, a port as a number.
    """
    result = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, port = fields[1].split(":")
        packed = b"".join(
            int(address[start : start + 8], 16).to_bytes(4, sys.byteorder)
            for start in range(0, len(address), 8)
        )
        result.append(Listener(_plain(ipaddress.ip_address(packed)), int(port, 16), fields[9]))
    return result


def _plain(address):
    """Return an IPv4 address for one that is mapped into IPv6."""
    return getattr(address, "ipv4_mapped", None) or address


def conflicts(addresses, port, listeners):
    """Return those *listeners* that keep gearmand from listening on *addresses* and *port*.

    gearmand's IPv6 sockets take no IPv4, while those of others usually take both.
    """
    return [
        listener
        for listener in listeners
        if listener.port == port
        and any(_overlap(address, listener.address) for address in addresses)
    ]


def _overlap(ours, theirs):
    if ours.version == theirs.version:
        return ours == theirs or ours.is_unspecified or theirs.is_unspecified
    return ours.version == 4 and theirs.is_unspecified


def listeners(proc="/proc"):
    """Return the [Listener] of this host."""
    return [
        listener
        for name in ("tcp", "tcp6")
        for listener in parse_listeners(read_text(f"{proc}/net/{name}") or "")
    ]


def holder(inode, proc="/proc"):
    """Return the Process that holds the socket, or None when that cannot be seen."""
    for directory in glob.glob(f"{proc}/[0-9]*"):
        process = Process(int(os.path.basename(directory)), proc)
        if inode in process.socket_inodes():
            return process
    return None


def local_addresses(listen):
    """Return the IP addresses of *listen*; raises InvalidOption when none is this host's."""
    try:
        found = socket.getaddrinfo(listen, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InvalidOption(
            "listen",
            listen,
            f"does not resolve on this host: {getattr(error, 'strerror', None) or error}",
            "Use an IP address of this host, or a name that its /etc/hosts or DNS knows",
        ) from None
    usable = [
        ipaddress.ip_address(address[0].partition("%")[0])
        for family, _type, _protocol, _name, address in found
        if _can_bind(family, address)
    ]
    if not usable:
        raise InvalidOption(
            "listen",
            listen,
            "is not an address of this host",
            "Use one that 'ip address' shows on it, 127.0.0.1, or 0.0.0.0 for all",
        )
    return usable


def _can_bind(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def check_free(addresses, port, own=None, own_port=None, proc="/proc"):
    """Refuse a port that another process listens on.

    *own* is our gearmand's Process and *own_port* its port; sockets without a visible owner
    count as its when its own cannot be seen. Raises InvalidOption naming the holder.
    """
    found = conflicts(addresses, port, listeners(proc))
    ours = own.socket_inodes() if found and own else set()
    unseen = own is not None and not ours and port == own_port
    for listener in found:
        if listener.inode in ours:
            continue
        process = holder(listener.inode, proc)
        if process is None and unseen:
            continue
        who = (
            f"{process.name()} (pid {process.pid})" if process else "a process that cannot be seen"
        )
        raise InvalidOption(
            "port",
            port,
            f"is taken on {listener.address} by {who}",
            "Stop that process, or choose another port or listen",
            **({"pid": process.pid} if process else {}),
        )


def check_privilege(port, proc="/proc"):
    """Refuse a port that only root may open: gearmand runs as user gearman."""
    first = int(read_text(f"{proc}/sys/net/ipv4/ip_unprivileged_port_start") or 1024)
    if port < first:
        raise InvalidOption(
            "port",
            port,
            "is one that only root may open",
            f"gearmand runs as gearman: use {first} or more",
        )
