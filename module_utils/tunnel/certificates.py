# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a certificate does what it is for: tried in a TLS handshake, all in memory.

Parsing certificates needs more than the standard library; shaking hands does not, and finds what
matters: a key of another certificate, a foreign or expired authority, the wrong name or purpose.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import tempfile
from typing import NamedTuple

from ..failure import GearvisorError

_NAMES = ("DNS", "IP Address")
_END = "-----END CERTIFICATE-----"


class CertificateError(GearvisorError):
    """The certificate cannot be used; *part* is "ca", "certificate" or "key"."""

    def __init__(self, part, problem):
        super().__init__(problem)
        self.part = part


class Identity(NamedTuple):
    """What stands on paper: PEM texts of the authority (one or more), the certificate and its key."""

    ca: str
    certificate: str
    key: str


class Facts(NamedTuple):
    """*expires*: seconds since the epoch; *names*: host names and addresses it was issued for."""

    expires: int
    names: frozenset


def check_as_client(identity):
    """Return Facts of a certificate that a client may show. Raises CertificateError."""
    server, client = _contexts(identity)
    server.verify_mode = ssl.CERT_REQUIRED
    return _facts(_shake_hands(server, client, None)[0])


def check_as_server(identity, name):
    """Return Facts of a certificate that a server called *name* may show. Raises CertificateError."""
    server, client = _contexts(identity)
    client.check_hostname = True
    client.verify_mode = ssl.CERT_REQUIRED
    return _facts(_shake_hands(server, client, name)[1])


def client_context(identity):
    """Return the SSLContext of a client, which looks at the server's authority but not at its name."""
    _server, client = _contexts(identity)
    client.verify_mode = ssl.CERT_REQUIRED
    return client


def leaf(certificate):
    """Return the first certificate of a PEM text in DER form."""
    head, found, _chain = certificate.partition(_END)
    return ssl.PEM_cert_to_DER_cert(head[head.find("-----BEGIN") :] + found)


def leaves(texts):
    """Return the set of all certificates of a PEM text in DER form."""
    return frozenset(leaf(part + _END) for part in texts.split(_END)[:-1])


def _contexts(identity):
    """Return (server's, client's) SSLContext, both with the certificate; neither verifies yet."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    with _files(identity) as (certificate, key):
        for context in (server, client):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            try:
                context.load_verify_locations(cadata=identity.ca)
            except (ssl.SSLError, ValueError, TypeError):
                raise CertificateError(
                    "ca", "holds no certificate in PEM form that can be read"
                ) from None
            try:
                context.load_cert_chain(certificate, key, password=_no_password)
            except (ssl.SSLError, ValueError) as error:
                raise _unusable(error) from None
    return server, client


def _no_password():
    raise ValueError("encrypted")


def _unusable(error):
    if "encrypted" in str(error):
        return CertificateError("key", "is encrypted, and its password cannot be entered here")
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return CertificateError("key", "is not the key of that certificate")
    return CertificateError(
        "certificate", f"or its key cannot be read ({reason or 'no PEM text of either'})"
    )


@contextlib.contextmanager
def _files(identity):
    """Give paths of the certificate and the key, readable by us alone; ssl takes nothing else."""
    with tempfile.TemporaryDirectory(prefix="gearvisor-tunnel-") as directory:
        paths = []
        for name in ("certificate", "key"):
            paths.append(os.path.join(directory, name))
            descriptor = os.open(paths[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            # Text that cannot be encoded is refused like text that is not PEM.
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(getattr(identity, name))
        yield paths


def _shake_hands(server_context, client_context_, name):
    """Return what (the server, the client) saw of the other's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context_.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise CertificateError(
                    "certificate", f"is not accepted: {error.verify_message}"
                ) from None
            except ssl.SSLError as error:
                raise CertificateError("certificate", f"cannot be used: {error.reason}") from None
            waiting.remove(side)
    return server.getpeercert(), client.getpeercert()


def _facts(peer):
    names = frozenset(value for kind, value in peer.get("subjectAltName", ()) if kind in _NAMES)
    return Facts(int(ssl.cert_time_to_seconds(peer["notAfter"])), names)


def shown(name):
    """Return an IP address as certificates show it, and any other name as it is."""
    address = _address(name)
    if address is None or address.version == 4:
        return str(address or name)
    return ":".join(f"{int(group, 16):X}" for group in address.exploded.split(":"))


def kind(name):
    """Return what a certificate calls this kind of name: "DNS" or "IP"."""
    return "DNS" if _address(name) is None else "IP"


def _address(name):
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
