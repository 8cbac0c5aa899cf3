# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges one host's allow-list: checked with nft before anything is changed, loaded in one step."""

from __future__ import annotations

import os
import socket
import types
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import packages
from ..host.changes import ChangeSet
from ..host.directories import make, remove_empty
from ..host.files import read_text, write_text
from ..keeper.loaded import LoadedScript, LoadedUnit
from ..outcome import Outcome, prepared
from . import ruleset, ssh

PACKAGE = "nftables"
NAME = "gearman-firewall"
UNIT = f"{NAME}.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
DROP_IN = "/etc/systemd/system/nftables.service.d/gearvisor.conf"
INIT_SCRIPT = f"/etc/init.d/{NAME}"
# What nft listed right after it had loaded the file: an edit by hand shows.
LISTING = "/var/lib/gearvisor/firewall.listing"
# In numbers: which names nft knows depends on the packages of the host.
_LIST = [ruleset.NFT, "--stateless", "--numeric", "list", "table", ruleset.FAMILY, ruleset.TABLE]
_MOST_PORTS = 1000


class Request(NamedTuple):
    """*hosts*: {host: [address or name]}; *networks*: more that may connect.

    *local_users*: the only users of this host, besides root, that may; empty for all. *ssh_ports*: ports of SSH
    besides those that are found. *extra_lines*: rules before the refusal. *monitoring_ports*: those of the
    exporter, which only *monitoring_networks* reach.
    """

    ports: tuple = ()
    monitoring_ports: tuple = ()
    monitoring_networks: tuple = ()
    hosts: dict = types.MappingProxyType({})
    networks: tuple = ()
    local_users: tuple = ()
    ssh_ports: tuple = ()
    extra_lines: tuple = ()
    state: str = "present"


def request_of(params):
    """Return the Request of the module's parameters."""
    return Request(**{name: params[name] for name in Request._fields})


def converge(request, host):
    """Apply *request* to the host's allow-list; return the Outcome.

    Raises GearvisorError with nothing changed.
    """
    if request.state == "absent":
        return _absent(host, _Table(host))
    guards = _guards(request, host)
    table = _Table(host, guards)
    text = ruleset.table_text(*guards, _local_users(request), request.extra_lines)
    wanted = packages.missing(packages.installed_versions(host.run, [PACKAGE]), {PACKAGE: None})
    changes = ChangeSet(host)
    changes.want_directory(os.path.dirname(ruleset.FILE))
    changes.want(ruleset.FILE, text)
    for path, (content, mode) in table.keeper.files().items():
        changes.want(path, content, mode)
    actions = [f"install {specification}" for specification in wanted]
    if not wanted:
        _check(table, request, text)
    if not table.keeper.enabled():
        actions.append(f"load the allow-list at boot ({next(iter(table.keeper.files()))})")
    if wanted or ruleset.FILE in changes:
        actions.append("load the allow-list")
    elif not table.is_loaded():
        actions.append("load the allow-list again: it was changed or flushed by others")
    if (actions or changes.changed) and not host.check_mode:
        if wanted:
            packages.install(host.run, wanted, "state: 'present'")
            _check(table, request, text)
        with changes.applied():
            table.load()
            table.keeper.start()
    return _outcome(changes, actions)


def resolve(name):
    """Return the IP addresses of the name, as this host sees them."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({address[0].partition("%")[0] for *_others, address in found})


def _guards(request, host):
    """Return the Guards of the job server's ports and of the exporter's; raises InvalidOption."""
    if not request.ports and not request.monitoring_ports:
        raise InvalidOption(
            "ports", request.ports, "is empty", "Name the ports to guard, or use state: absent"
        )
    ssh_ports = {*request.ssh_ports, *ssh.ports_in_use(host)}
    for option in ("ports", "monitoring_ports"):
        given = getattr(request, option)
        if len(given) > _MOST_PORTS:
            raise InvalidOption(
                option, len(given), "are too many", f"Name up to {_MOST_PORTS} ports"
            )
        ruleset.check_ports(option, given, ssh_ports)
    both = sorted({*request.ports} & {*request.monitoring_ports})
    if both:
        raise InvalidOption(
            "monitoring_ports", both[0], "is in ports, too", "Name each port in one of the two"
        )
    ruleset.check_extra_lines(request.extra_lines)
    hosts = ruleset.addresses_of(request.hosts, resolve) if request.ports else []
    networks = ruleset.typed_networks(request.networks)
    monitoring = ruleset.monitors(request.monitoring_networks, resolve)
    return (
        ruleset.Guard(tuple(request.ports), (*hosts, *networks)),
        ruleset.Guard(tuple(request.monitoring_ports), tuple(monitoring)),
    )


def _local_users(request):
    return ruleset.user_ids(["0", *request.local_users]) if request.local_users else []


def _check(table, request, text):
    """Let nft read the text without loading it. Raises GearvisorError."""
    problem = table.problem(text)
    if problem is None:
        return
    if request.extra_lines:
        raise InvalidOption(
            "extra_lines",
            list(request.extra_lines),
            f"may be what nft refuses: {problem}",
            "Correct them",
        )
    raise GearvisorError(f"nft refuses the allow-list: {problem}. The one that was loaded still is")


def _absent(host, table):
    changes = ChangeSet(host)
    for path in (ruleset.FILE, UNIT_FILE, DROP_IN, INIT_SCRIPT, LISTING):
        changes.want(path, None)
    present = changes.changed or table.listing() is not None
    actions = ["remove the allow-list"] if present else []
    if actions and not host.check_mode:
        table.remove()
        with changes.applied():
            table.keeper.reread()
        remove_empty(host.path(os.path.dirname(ruleset.FILE)), host.path(os.path.dirname(DROP_IN)))
    return _outcome(changes, actions)


def _outcome(changes, actions):
    # The listing is Gearvisor's own record, not a file for users.
    paths = [path for path in changes.paths() if path != LISTING]
    diff = [entry for entry in changes.diff() if entry["after_header"] != LISTING]
    return Outcome(bool(actions or paths), actions, paths, diff + prepared(actions))


class _Table:
    """Our table in the kernel, and what loads it at boot."""

    def __init__(self, host, guards=()):
        self._host = host
        self.keeper = _keeper(host, guards)

    def problem(self, text):
        """Return nft's error about the text, or None; nothing is loaded."""
        rc, out, err = self._host.run([ruleset.NFT, "--check", "--file", "-"], data=text)
        return None if rc == 0 else _reason(out, err)

    def load(self):
        """Load the file, in one step, and note what came of it."""
        self._nft("--file", self._host.path(ruleset.FILE))
        path = self._host.path(LISTING)
        make(os.path.dirname(path), 0o755, os.geteuid(), os.getegid(), frozenset({0, os.geteuid()}))
        write_text(path, self.listing(), 0o600, -1, -1)

    def listing(self):
        """Return the table as nft lists it, or None when there is none."""
        if not os.path.exists(ruleset.NFT):
            return None
        rc, out, _err = self._host.run(_LIST)
        return out if rc == 0 else None

    def is_loaded(self):
        """Return whether the table is as it was right after Gearvisor's last load."""
        listing = self.listing()
        return listing is not None and listing == read_text(self._host.path(LISTING))

    def remove(self):
        """Take the table away, now and at boot."""
        self.keeper.remove()
        if self.listing() is not None:
            self._nft("delete", "table", ruleset.FAMILY, ruleset.TABLE)

    def _nft(self, *arguments):
        rc, out, err = self._host.run([ruleset.NFT, *arguments])
        if rc != 0:
            raise GearvisorError(
                f"nft refuses the allow-list: {_reason(out, err)}. The one that was loaded, if any, still is"
            )


def _keeper(host, guards):
    """Return what loads the table at boot; *guards* are none for one that is to be removed."""
    if not host.systemd:
        return LoadedScript(NAME, host, {INIT_SCRIPT: (ruleset.init_script(*guards), 0o755)})
    units = ruleset.guarded_units(*guards)
    files = {UNIT_FILE: (ruleset.unit_text(units), 0o644), DROP_IN: (ruleset.drop_in_text(), 0o644)}
    return LoadedUnit(NAME, host, files, units, ruleset.UNITS)


def _reason(out, err):
    reason = (err or out).strip()
    if "Operation not permitted" in reason:
        reason += ". In a container, nft needs the capability NET_ADMIN"
    return reason
