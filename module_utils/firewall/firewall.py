# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges one host's allow-list: checked with nft before anything is changed, loaded in one step."""

from __future__ import annotations

import os
import socket
import tempfile
import types
from typing import NamedTuple

from ..failure import GearvisorError
from ..host import packages, release, systemd
from ..host.files import diffs, read_text, remove_empty, restore_text
from . import ruleset

PACKAGE = "nftables"
NAME = "gearman-firewall"
UNIT = f"{NAME}.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
INIT_SCRIPT = f"/etc/init.d/{NAME}"
# What nft listed right after it had loaded the file: an edit by hand shows.
LISTING = "/var/lib/gearvisor/firewall.listing"
# In numbers: which names nft knows depends on the packages of the host.
_LIST = [ruleset.NFT, "--stateless", "--numeric", "list", "table", ruleset.FAMILY, ruleset.TABLE]


class Request(NamedTuple):
    """*hosts*: {host: [address or name]}; *networks*: more that may come in."""

    ports: tuple = ()
    hosts: dict = types.MappingProxyType({})
    networks: tuple = ()
    state: str = "present"


class Files(NamedTuple):
    """{path: text} before and after; None is a file that is not there or shall go."""

    before: dict
    after: dict

    def changed(self):
        return {path: new for path, new in self.after.items() if new != self.before[path]}


def converge(request, run, check_mode=False, environment=os.environ):
    """Make the host's allow-list what *request* says; return the module's result.

    *run* is like AnsibleModule.run_command. Raises GearvisorError with nothing changed.
    """
    if os.geteuid() != 0:
        raise GearvisorError(
            "This changes the host's firewall and must run as root. Set become: true"
        )
    release.check_supported()
    host = _Host(run)
    if request.state == "absent":
        return _absent(host, check_mode)
    ruleset.check_ports(request.ports, environment.get("SSH_CONNECTION", ""))
    networks = [
        *ruleset.addresses_of(request.hosts, resolve),
        *ruleset.typed_networks(request.networks),
    ]
    wanted = packages.missing(packages.installed_versions(run, [PACKAGE]), {PACKAGE: None})
    files = _files({ruleset.FILE: ruleset.table_text(request.ports, networks), **host.boot_files()})
    actions = [f"install {specification}" for specification in wanted]
    if not wanted:
        host.check(files.after[ruleset.FILE])
    if not host.starts_at_boot():
        actions.append(f"load the allow-list at boot ({host.boot_file})")
    if wanted or ruleset.FILE in files.changed():
        actions.append("load the allow-list")
    elif not host.is_loaded():
        actions.append("load the allow-list again: it was changed or flushed by somebody else")
    if (actions or files.changed()) and not check_mode:
        _apply(host, wanted, files)
    return _result(files, actions)


def resolve(name):
    """Return the IP addresses of the name, as this host sees them."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({address[0].partition("%")[0] for *_others, address in found})


def _files(after):
    return Files({path: read_text(path) for path in after}, after)


def _apply(host, wanted, files):
    if wanted:
        packages.install(host.run, wanted, "state: 'present'")
        host.check(files.after[ruleset.FILE])
    _write(files.changed())
    try:
        host.load()
    except GearvisorError:
        _write({path: files.before[path] for path in files.changed()})
        raise
    host.start_at_boot()


def _write(texts):
    for path, text in texts.items():
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        restore_text(path, text, 0o755 if path == INIT_SCRIPT else 0o644)


def _absent(host, check_mode):
    paths = [ruleset.FILE, UNIT_FILE, INIT_SCRIPT, LISTING]
    before = {path: text for path, text in ((p, read_text(p)) for p in paths) if text is not None}
    files = Files(before, dict.fromkeys(before))
    actions = ["remove the allow-list"] if before or host.listing() is not None else []
    if actions and not check_mode:
        host.forget()
        _write(files.after)
        remove_empty(os.path.dirname(ruleset.FILE))
        host.files_are_gone()
    return _result(files, actions)


def _result(files, actions):
    # The listing is a note of ours, not a file that anybody reads.
    changed = {path: text for path, text in files.changed().items() if path != LISTING}
    shown = diffs(files.before, changed)
    return {
        "changed": bool(actions or changed),
        "actions": actions,
        "files": sorted(changed),
        "diff": shown + ([{"prepared": "\n".join(actions) + "\n"}] if actions else []),
    }


class _Host:
    """nft, and what loads the table at boot."""

    def __init__(self, run):
        self.run = run
        self._unit = systemd.Unit(UNIT, run) if systemd.runs() else None

    @property
    def boot_file(self):
        return UNIT_FILE if self._unit else INIT_SCRIPT

    def boot_files(self):
        text = ruleset.unit_text() if self._unit else ruleset.init_script()
        return {self.boot_file: text}

    def check(self, text):
        """Let nft read the text without loading it. Raises GearvisorError."""
        with tempfile.NamedTemporaryFile("w", prefix="gearvisor-", suffix=".nft") as candidate:
            candidate.write(text)
            candidate.flush()
            self._nft("--check", "--file", candidate.name)

    def load(self):
        """Load the file, in one step, and take note of what came of it."""
        self._nft("--file", ruleset.FILE)
        os.makedirs(os.path.dirname(LISTING), 0o755, exist_ok=True)
        restore_text(LISTING, self.listing(), 0o600)

    def listing(self):
        """Return the table as nft lists it, or None when there is none."""
        if not os.path.exists(ruleset.NFT):
            return None
        rc, out, _err = self.run(_LIST)
        return out if rc == 0 else None

    def is_loaded(self):
        """Tell whether the table is as it was right after our last load."""
        listing = self.listing()
        return listing is not None and listing == read_text(LISTING)

    def starts_at_boot(self):
        if self._unit:
            return self._unit.enabled()
        return bool([name for name in os.listdir("/etc/rc2.d") if name.endswith(NAME)])

    def start_at_boot(self):
        if self._unit:
            self._unit.reread()
            self._unit.enable()
            # So that systemd takes it for started: what it loads is loaded.
            self._unit.start()
        else:
            self._update_rc("defaults")

    def forget(self):
        """Take the table away, now and at boot."""
        if self._unit:
            self._unit.remove()
        if self.listing() is not None:
            self._nft("delete", "table", ruleset.FAMILY, ruleset.TABLE)

    def files_are_gone(self):
        if self._unit:
            self._unit.reread()
        else:
            self._update_rc("remove")

    def _nft(self, *arguments):
        rc, out, err = self.run([ruleset.NFT, *arguments])
        if rc != 0:
            reason = (err or out).strip()
            if "Operation not permitted" in reason:
                reason += ". In a container, nft needs the capability NET_ADMIN"
            raise GearvisorError(
                f"nft refuses the allow-list: {reason}. The one that was loaded, if any, still is"
            )

    def _update_rc(self, verb):
        rc, out, err = self.run(["update-rc.d", NAME, verb])
        if rc != 0:
            raise GearvisorError(f"'update-rc.d {NAME} {verb}' failed: {(err or out).strip()}")
