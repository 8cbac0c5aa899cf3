# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports by which users may be logged in to this host, which an allow-list must not guard.

No single source knows them all: sudo drops SSH_CONNECTION, a socket unit listens for sshd, and an sshd that
has another port on its command line, or runs since before its file was changed, listens elsewhere than the file states.
"""

from __future__ import annotations

import re

from ..host import processes
from ..job_server import ports

DEFAULT = 22
_SERVERS = frozenset({"sshd", "dropbear", "tinysshd"})
_SSHD = "/usr/sbin/sshd"


def ports_in_use(host):
    """Return the set of TCP ports of this host's SSH servers: configured, listening, and of this run."""
    found = {DEFAULT} | _configured(host) | _of_socket_unit(host) | _listening(host)
    return found | _of_this_run(host)


def parse_configuration(text):
    """Return the ports in what `sshd -T` prints.

    >>> sorted(parse_configuration("port 2222\\nlistenaddress [::]:2200\\nlistenaddress 192.0.2.1:2222\\n"))
    [2200, 2222]
    """
    found = re.findall(r"(?m)^(?:port |listenaddress \S*:)(\d+)$", text)
    return {int(port) for port in found}


def _configured(host):
    rc, out, _err = host.run([_SSHD, "-T"])
    return parse_configuration(out) if rc == 0 else set()


def _of_socket_unit(host):
    if not host.systemd:
        return set()
    _rc, out, _err = host.run(
        ["systemctl", "show", "--property=Listen", "ssh.socket", "sshd.socket"]
    )
    return {int(port) for port in re.findall(r"(?m)^Listen=\S*:(\d+) \(Stream\)", out)}


def _listening(host):
    # Who holds a socket takes a while to find out, so each is asked for once.
    holders = {
        listener.port: ports.holder(listener.inode, host.proc)
        for listener in ports.listeners(host.proc)
    }
    return {port for port, holder in holders.items() if holder and holder.name() in _SERVERS}


def _of_this_run(host):
    """Return the port of the connection by which this run came in, that of processes above it included."""
    found, pid = set(), "self"
    for _generation in range(64):
        connection = processes.environment(pid, host.proc).get(b"SSH_CONNECTION", b"")
        words = connection.decode("ascii", errors="replace").split()
        if len(words) == 4 and words[3].isdigit():
            found.add(int(words[3]))
        pid = _parent(pid, host.proc)
        if pid in (None, "0"):
            break
    return found


def _parent(pid, proc):
    try:
        with open(f"{proc}/{pid}/status", encoding="utf-8", errors="replace") as file:
            match = re.search(r"^PPid:\s*(\d+)$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return match and match.group(1)
