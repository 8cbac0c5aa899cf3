# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private certificate authority in a directory: its certificate, and one for each host.

    ca.key, ca.pem              the authority; anyone who has the key can reach every job server
    hosts/NAME.key, NAME.pem    a host's key and certificate
    hosts/NAME.next.*           those that take their place, until all hosts accept them

Job servers and their clients accept exactly the certificates that are here (docs/decisions/0036), so
what is replaced or removed here is refused from the run on that updates their lists.

The program openssl makes them. What is there already is tried, not parsed: see certificates.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import tempfile
import time
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host.files import read_text, write_text
from ..outcome import Outcome, prepared
from . import certificates

_DAY = 24 * 60 * 60
_MOST_DAYS = 36500
# Of a certificate that is still good: it serves until all hosts know the next one.
_IN_TIME = ("expires soon", "rotate")
_NEXT = ".next"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_SUBJECT = "Gearvisor authority"
# openssl's own default configuration adds extensions of its taste, so it is not read.
_REQUEST = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = {name}\n"
_AUTHORITY_EXTENSIONS = """[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_HOST_EXTENSIONS = """[host]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = {purposes}
subjectAltName = {names}
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Host(NamedTuple):
    """*names*: host names and IP addresses; *server*: whether clients may find a job server there."""

    names: tuple
    server: bool = False


class Request(NamedTuple):
    """*hosts*: {name: Host}. *rotate*: new certificates even if the old ones are valid.

    *stage*: leave a good certificate in place, and put the one that follows it beside it; without it,
    what was put beside takes its place. *purge*: remove certificates of hosts that are not listed.
    """

    directory: str
    hosts: dict
    days: int = 365
    renew_days: int = 60
    authority_days: int = 3650
    rotate: bool = False
    stage: bool = False
    purge: bool = False


def typed_hosts(given):
    """Return {name: Host} of the option hosts; raises InvalidOption."""
    result = {}
    for name, host in given.items():
        names = host.get("names") if isinstance(host, dict) else None
        server = host.get("server", False) if isinstance(host, dict) else None
        strings = isinstance(names, list) and all(isinstance(one, str) for one in names)
        if not names or not strings or not isinstance(server, bool):
            raise InvalidOption(
                f"hosts.{name}",
                host,
                "is not {names: [...], server: ...}",
                "Give it at least one name, as text",
            )
        result[str(name)] = Host(tuple(names), server)
    return result


def check(request):
    """Raise InvalidOption for values that cannot work."""
    if not os.path.isabs(request.directory) or re.search(
        r"[\0-\x1f\ud800-\udfff]", request.directory
    ):
        raise InvalidOption(
            "directory", request.directory, "is not an absolute path", "Give the whole path"
        )
    if os.path.lexists(request.directory) and not os.path.isdir(request.directory):
        raise InvalidOption(
            "directory", request.directory, "is not a directory", "Remove it, or name another path"
        )
    if not 0 < request.renew_days < request.days:
        raise InvalidOption(
            "renew_days",
            request.renew_days,
            f"is not from 1 to {request.days - 1} (days: {request.days})",
            "Give fewer days than the certificate is valid",
        )
    if request.authority_days > _MOST_DAYS:
        raise InvalidOption(
            "authority_days", request.authority_days, f"is above {_MOST_DAYS}", "Use 3650"
        )
    # A certificate must not outlive its authority.
    if request.authority_days <= request.days + request.renew_days:
        raise InvalidOption(
            "authority_days",
            request.authority_days,
            f"is not above {request.days + request.renew_days} (days and renew_days)",
            "Use for example 3650",
        )
    for name, host in request.hosts.items():
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,239}\Z", name) or name.endswith(".next"):
            raise InvalidOption(
                "hosts", name, "is not a host name", "Use letters, digits, '.', '-'"
            )
        for other in host.names:
            if not re.match(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}\Z", other):
                raise InvalidOption(
                    f"hosts.{name}.names", other, "is not a host name or IP address", "Correct it"
                )


def converge(request, run, check_mode=False):
    """Make what is missing or due; return the Outcome. Raises GearvisorError."""
    check(request)
    authority = _Authority(request, run, time.time())
    open_paths = authority.open_paths()
    actions = [
        f"make {path} its owner's alone, whose mode was {mode:04o}" for path, mode in open_paths
    ]
    warnings = _warnings(open_paths)
    if not check_mode:
        for path, _mode in open_paths:
            os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)
    reason = authority.due()
    renewed = reason is not None
    if renewed:
        actions.append(f"make the authority's certificate ({reason})")
        if not check_mode:
            authority.make()
    for name, host in sorted(request.hosts.items()):
        for action, function in _steps(authority, name, host, renewed and check_mode):
            actions.append(action)
            if not check_mode:
                function()
    for name in authority.not_listed() if request.purge else ():
        actions.append(f"remove the certificate of {name}, which is not listed any more")
        if not check_mode:
            authority.remove(name)
    details = {"certificates": authority.certificates(), "staged": authority.staged()}
    return Outcome(
        bool(actions), actions, diff=prepared(actions), warnings=warnings, details=details
    )


def _steps(authority, name, host, renewed):
    """Return [(action, function)] of what is to be done for one host."""
    request = authority.request
    if renewed:
        return [(f"issue a certificate for {name} (new authority)", None)]
    reason = authority.host_due(name, host) or ("rotate" if request.rotate else None)
    staged = authority.is_staged(name) and authority.host_due(name, host, _NEXT) is None
    if request.stage and reason in (None, *_IN_TIME):
        if reason is None or staged:
            return []
        action = f"issue the next certificate for {name} ({reason})"
        return [(action, lambda: authority.issue(name, host, _NEXT))]
    if staged:
        return [(f"use the next certificate for {name}", lambda: authority.promote(name))]
    if reason is None:
        return []
    return [(f"issue a certificate for {name} ({reason})", lambda: authority.issue(name, host))]


def _warnings(open_paths):
    return [
        f"{path} had the mode {mode:04o}, so others may have read it. If somebody could have, replace the "
        "authority, or rotate the keys: see docs/security.md"
        for path, mode in open_paths
        if path.endswith(".key")
    ]


class _Authority:
    def __init__(self, request, run, now):
        self.request = request
        self._run = run
        self._now = now
        self._certificate = os.path.join(request.directory, "ca.pem")
        self._key = os.path.join(request.directory, "ca.key")

    def due(self):
        """Return why the authority needs a certificate, or None."""
        if read_text(self._certificate) is None or read_text(self._key) is None:
            return "none exists"
        days = self.request.days + self.request.renew_days
        # It must still be valid when the certificates that it signs now are renewed.
        if self._openssl_succeeds("x509", "-checkend", str(days * _DAY), "-in", self._certificate):
            return None
        return "expires soon"

    def make(self):
        """Make a certificate; a key that is there stays, so certificates that it signed stay good."""
        directory = self.request.directory
        os.makedirs(os.path.join(directory, "hosts"), 0o700, exist_ok=True)
        os.chmod(directory, 0o700)
        # Keys get into version control by accident.
        write_text(os.path.join(directory, ".gitignore"), "*\n", 0o600, -1, -1)
        config = _REQUEST.format(name=_SUBJECT) + _AUTHORITY_EXTENSIONS
        key = read_text(self._key)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            made = _Scratch(scratch)
            made.write("config", config)
            source = ["-key", self._key] if key else [*_CURVE, "-keyout", made.path("key")]
            self._openssl(
                *["req", "-x509", "-new", *source, "-config", made.path("config")],
                *["-extensions", "authority", "-days", str(self.request.authority_days)],
                *["-sha256", "-out", made.path("certificate")],
            )
            if not key:
                write_text(self._key, made.read("key"), 0o600, -1, -1)
            write_text(self._certificate, made.read("certificate"), 0o644, -1, -1)

    def open_paths(self):
        """Return [(path, mode)] of what is here and open to others; it must be its owner's alone."""
        hosts = os.path.join(self.request.directory, "hosts")
        keys = [os.path.join(hosts, name) for name in _names(hosts) if name.endswith(".key")]
        found = []
        for path in (self.request.directory, hosts, self._key, *keys):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                if status.st_uid != os.geteuid():
                    raise GearvisorError(
                        f"{path} belongs to user {status.st_uid}, who could change it. Give it to "
                        f"user {os.geteuid()}, who runs Ansible, or run Ansible as that user"
                    )
                if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode):
                    found.append((path, stat.S_IMODE(status.st_mode)))
        return found

    def certificates(self):
        """Return {name: [PEM text]} of the listed hosts: the one in use, and the next one."""
        found = {}
        for name in sorted(self.request.hosts):
            texts = [read_text(self._paths(name, suffix)[0]) for suffix in ("", _NEXT)]
            found[name] = [text for text in texts if text is not None]
        return found

    def staged(self):
        """Return the names of the listed hosts that have a next certificate."""
        return [name for name in sorted(self.request.hosts) if self.is_staged(name)]

    def is_staged(self, name):
        return all(os.path.exists(path) for path in self._paths(name, _NEXT))

    def promote(self, name):
        """Put the next certificate and key of the host in place of those in use."""
        for old, new in zip(self._paths(name), self._paths(name, _NEXT)):
            os.replace(new, old)

    def not_listed(self):
        """Return the names of hosts that have files here and are not listed."""
        hosts = os.path.join(self.request.directory, "hosts")
        found = {re.sub(r"(\.next)?\.(pem|key)\Z", "", name) for name in _names(hosts)}
        return sorted(name for name in found - set(self.request.hosts) if not name.startswith("."))

    def remove(self, name):
        for suffix in ("", _NEXT):
            for path in self._paths(name, suffix):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def host_due(self, name, host, suffix=""):
        """Return why the host needs a certificate, or None."""
        certificate, key = (read_text(path) for path in self._paths(name, suffix))
        if certificate is None or key is None:
            return "none exists"
        identity = certificates.Identity(read_text(self._certificate), certificate, key)
        try:
            facts = certificates.check_as_client(identity)
        except certificates.CertificateError as error:
            return str(error)
        if facts.names != frozenset(map(certificates.shown, host.names)):
            return "other names"
        if self._serves(identity, host) != host.server:
            return "other purpose"
        left = facts.expires - self._now
        if left < self.request.renew_days * _DAY:
            # Runs that never reach all hosts must not let it end.
            return (
                "expires soon" if left > self.request.renew_days * _DAY / 2 else "expires very soon"
            )
        return None

    @staticmethod
    def _serves(identity, host):
        try:
            certificates.check_as_server(identity, host.names[0])
        except certificates.CertificateError:
            return False
        return True

    def issue(self, name, host, suffix=""):
        """Make a key and a certificate for the host; *suffix* is _NEXT for those that follow."""
        purposes = "serverAuth, clientAuth" if host.server else "clientAuth"
        names = ", ".join(
            f"{certificates.kind(other)}:{other}" for other in dict.fromkeys(host.names)
        )
        certificate, key = self._paths(name, suffix)
        os.makedirs(os.path.dirname(key), 0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.request.directory) as scratch:
            made = _Scratch(scratch)
            made.write("config", _REQUEST.format(name=name[:64]))
            made.write("extensions", _HOST_EXTENSIONS.format(purposes=purposes, names=names))
            self._openssl(
                *["req", "-new", *_CURVE, "-keyout", made.path("key")],
                *["-config", made.path("config"), "-out", made.path("request")],
            )
            self._openssl(
                *["x509", "-req", "-in", made.path("request"), "-sha256"],
                *["-CA", self._certificate, "-CAkey", self._key],
                *["-set_serial", str(secrets.randbits(120) + 1)],
                *["-days", str(self.request.days), "-extensions", "host"],
                *["-extfile", made.path("extensions"), "-out", made.path("certificate")],
            )
            write_text(key, made.read("key"), 0o600, -1, -1)
            write_text(certificate, made.read("certificate"), 0o644, -1, -1)

    def _paths(self, name, suffix=""):
        base = os.path.join(self.request.directory, "hosts", name + suffix)
        return f"{base}.pem", f"{base}.key"

    def _openssl(self, *arguments):
        rc, out, err = self._run(["openssl", *arguments])
        if rc != 0:
            raise GearvisorError(
                f"'openssl {' '.join(arguments[:2])}' failed on the control node: "
                f"{(err or out).strip()}. Is OpenSSL 1.1.1 or later installed there?"
            )

    def _openssl_succeeds(self, *arguments):
        rc, _out, _err = self._run(["openssl", *arguments, "-noout"])
        return rc == 0


def _names(directory):
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


class _Scratch:
    """Files in a private directory."""

    def __init__(self, directory):
        self._directory = directory

    def path(self, name):
        return os.path.join(self._directory, name)

    def read(self, name):
        return read_text(self.path(name))

    def write(self, name, text):
        write_text(self.path(name), text, 0o600, -1, -1)
