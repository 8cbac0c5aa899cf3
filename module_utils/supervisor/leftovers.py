# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of a program besides the one that supervisord knows, by /proc.

supervisord starts each process as the leader of a process group of its own, and signals the leader
only, unless stopasgroup is set. Behind a wrapper such as bash, the worker itself may then live on.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import struct

from ..host import processes

_ESTABLISHED = "01"


def tree(pid, proc="/proc"):
    """Return the pid and those of all its descendants, as a set."""
    found, todo = set(), [pid]
    while todo:
        each = todo.pop()
        if each in found or not each:
            continue
        found.add(each)
        with contextlib.suppress(OSError):
            for task in pathlib.Path(proc, str(each), "task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def members(group, proc="/proc"):
    """Return the pids of the process group that still run, as a set; zombies do not count."""
    return {
        int(path.name)
        for path in pathlib.Path(proc).iterdir()
        if path.name.isdigit() and _group_of(path) == group
    }


def _group_of(path):
    try:
        stat = (path / "stat").read_text(errors="replace")
    except OSError:
        return None
    # proc(5): state, parent, group; the name before them is in parentheses and may hold anything.
    state, _parent, group = stat.rpartition(")")[2].split()[:3]
    return None if state in ("Z", "X") else int(group)


def signal_group(leader, name):
    """Send the signal (as in stopsignal) to the process group of *leader*.

    Returns False when that process does not lead a group, or is gone.
    """
    try:
        if os.getpgid(leader) != leader:
            return False
        os.killpg(leader, signal_number(name))
    except ProcessLookupError:
        return False
    return True


def signal_each(pids, name):
    """Send the signal to each of the processes that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number(name))


def signal_number(name):
    """Return the number of a signal as stopsignal names it: TERM, 15."""
    return int(name) if name.isdecimal() else getattr(signal, f"SIG{name}")


def connected(pids, servers, proc="/proc"):
    """Return those of *pids* that have a connection to one of the job servers ("host:port")."""
    sockets = _sockets_to(_addresses(servers), proc)
    return {pid for pid in pids if sockets & _open_files(pid, proc)} if sockets else set()


def _addresses(servers):
    """Return {(address, port)} of "host:port" texts, as the kernel prints addresses."""
    result = set()
    for server in servers:
        host, _colon, port = server.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            for family, *_rest, address in socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM
            ):
                result.add((_as_in_proc(family, address[0]), int(port)))
    return result


def _as_in_proc(family, address):
    packed = socket.inet_pton(family, address)
    words = struct.unpack(f"{len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _sockets_to(addresses, proc):
    """Return {"socket:[inode]"} of the established connections to one of *addresses*."""
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = pathlib.Path(proc, "net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _colon, port = fields[2].partition(":")
            # An IPv4 address in a socket of IPv6 ends with it.
            ends = {address, address[-8:]} if table == "tcp6" else {address}
            if fields[3] == _ESTABLISHED and any((end, int(port, 16)) in addresses for end in ends):
                found.add(f"socket:[{fields[9]}]")
    return found


def _open_files(pid, proc):
    """Return what the process's file descriptors lead to, as a set of texts."""
    directory = pathlib.Path(proc, str(pid))
    for eyes in (contextlib.nullcontext(), None):
        with contextlib.suppress(OSError), eyes or processes.eyes_of_owner(directory):
            return {os.readlink(entry) for entry in (directory / "fd").iterdir()}
    return set()
