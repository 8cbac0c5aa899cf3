# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private certificate authority in a directory: its certificate, and one for each host.

    ca.key, ca.pem              the authority; whoever has the key can walk into every job server
    hosts/NAME.key, NAME.pem    a host's key and certificate

The program openssl makes them. What is there already is tried, not parsed: see certificates.py.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import tempfile
import time
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host.files import read_text, write_text
from . import certificates

_DAY = 24 * 60 * 60
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
    """*hosts*: {name: Host}. *rotate*: new certificates whatever the old ones are."""

    directory: str
    hosts: dict
    days: int = 365
    renew_days: int = 60
    authority_days: int = 3650
    rotate: bool = False


def typed_hosts(given):
    """Return {name: Host} of the option hosts; raises InvalidOption."""
    result = {}
    for name, host in given.items():
        names = host.get("names") if isinstance(host, dict) else None
        server = host.get("server", False) if isinstance(host, dict) else None
        if not isinstance(names, list) or not names or not isinstance(server, bool):
            raise InvalidOption(
                f"hosts.{name}",
                host,
                "is not {names: [...], server: ...}",
                "Give it at least one name",
            )
        result[str(name)] = Host(tuple(map(str, names)), server)
    return result


def check(request):
    """Raise InvalidOption for values that cannot work."""
    if not os.path.isabs(request.directory):
        raise InvalidOption(
            "directory", request.directory, "is no absolute path", "Give the whole path"
        )
    if not 0 < request.renew_days < request.days:
        raise InvalidOption(
            "renew_days",
            request.renew_days,
            f"is not from 1 to {request.days - 1} (days: {request.days})",
            "Renew before the end, but not at once",
        )
    # A certificate must not outlive its authority.
    if request.authority_days <= request.days + request.renew_days:
        raise InvalidOption(
            "authority_days",
            request.authority_days,
            f"is not above {request.days + request.renew_days} (days and renew_days)",
            "Use 3650, say",
        )
    for name, host in request.hosts.items():
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9._:-]*\Z", name):
            raise InvalidOption("hosts", name, "is no host name", "Use letters, digits, '.', '-'")
        for other in host.names:
            if not re.match(r"[A-Za-z0-9_:][A-Za-z0-9._:-]*\Z", other):
                raise InvalidOption(
                    f"hosts.{name}.names", other, "is no host name or IP address", "Correct it"
                )


def converge(request, run, check_mode=False):
    """Make what is missing or due; return the module's result. Raises GearvisorError."""
    check(request)
    authority = _Authority(request, run, time.time())
    actions = []
    reason = authority.due()
    renewed = reason is not None
    if renewed:
        actions.append(f"make the authority's certificate ({reason})")
        if not check_mode:
            authority.make()
    for name, host in sorted(request.hosts.items()):
        reason = "new authority" if renewed and check_mode else authority.host_due(name, host)
        if reason is None and request.rotate:
            reason = "rotate"
        if reason is not None:
            actions.append(f"issue a certificate for {name} ({reason})")
            if not check_mode:
                authority.issue(name, host)
    return {
        "changed": bool(actions),
        "actions": actions,
        "diff": [{"prepared": "\n".join(actions) + "\n"}] if actions else [],
    }


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
            return "there is none"
        days = self.request.days + self.request.renew_days
        # It must still be valid when the certificates that it signs now are renewed.
        if self._openssl_says("x509", "-checkend", str(days * _DAY), "-in", self._certificate):
            return None
        return "ends soon"

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

    def host_due(self, name, host):
        """Return why the host needs a certificate, or None."""
        certificate, key = (read_text(path) for path in self._paths(name))
        if certificate is None or key is None:
            return "there is none"
        identity = certificates.Identity(read_text(self._certificate), certificate, key)
        try:
            facts = certificates.check_as_client(identity)
        except certificates.CertificateError as error:
            return str(error)
        if facts.names != frozenset(map(_plain, host.names)):
            return "other names"
        if self._serves(identity, host) != host.server:
            return "other purpose"
        if facts.expires - self._now < self.request.renew_days * _DAY:
            return "ends soon"
        return None

    @staticmethod
    def _serves(identity, host):
        try:
            certificates.check_as_server(identity, host.names[0])
        except certificates.CertificateError:
            return False
        return True

    def issue(self, name, host):
        """Make a key and a certificate for the host."""
        purposes = "serverAuth, clientAuth" if host.server else "clientAuth"
        names = ", ".join(f"{_kind(other)}:{other}" for other in dict.fromkeys(host.names))
        certificate, key = self._paths(name)
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

    def _paths(self, name):
        base = os.path.join(self.request.directory, "hosts", name)
        return f"{base}.pem", f"{base}.key"

    def _openssl(self, *arguments):
        rc, out, err = self._run(["openssl", *arguments])
        if rc != 0:
            raise GearvisorError(
                f"'openssl {' '.join(arguments[:2])}' failed on the control node: "
                f"{(err or out).strip()}. Is OpenSSL 1.1.1 or later installed there?"
            )

    def _openssl_says(self, *arguments):
        rc, _out, _err = self._run(["openssl", *arguments, "-noout"])
        return rc == 0


class _Scratch:
    """Files in a directory that is only ours."""

    def __init__(self, directory):
        self._directory = directory

    def path(self, name):
        return os.path.join(self._directory, name)

    def read(self, name):
        return read_text(self.path(name))

    def write(self, name, text):
        write_text(self.path(name), text, 0o600, -1, -1)


def _plain(name):
    """Return an IP address as certificates show it, and any other name as it is."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    if address.version == 4:
        return str(address)
    return ":".join(f"{int(group, 16):X}" for group in address.exploded.split(":"))


def _kind(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "DNS"
    return "IP"
