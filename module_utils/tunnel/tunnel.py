# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges one host's end of the TLS tunnel.

Certificates, addresses and ports are checked before anything is changed. stunnel then reloads,
which connections that are open do not notice; when it does not serve as it shall, the old files
come back.
"""

from __future__ import annotations

import os
import pwd
import re
import socket
import ssl
import time
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import packages, release
from ..host.files import diffs, read_text, remove_empty, restore_text
from ..job_server import ports
from . import certificates, service, stunnel

PACKAGE = "stunnel4"
_READY_SECONDS = 15
_WARN_DAYS = 21
_DAY = 24 * 60 * 60
_WAYS_OUT = {
    "ca": "Give the authority's certificate, or several, as PEM text",
    "certificate": "Give this host's certificate as PEM text, with intermediate ones after it, if any; "
    "playbooks/ca.yml makes one",
    "key": "Give the certificate's private key as PEM text, without a password",
}
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL)


class Request(NamedTuple):
    """*settings* and *identity* are None with state: absent."""

    settings: stunnel.Settings
    identity: certificates.Identity
    state: str = "present"
    service_manager: str = "auto"


class Files(NamedTuple):
    """{path: text} before and after; None is a file that is not there or shall go."""

    before: dict
    after: dict

    def changed(self):
        return {path: new for path, new in self.after.items() if new != self.before[path]}


def converge(request, run, check_mode=False):
    """Make the host's tunnel what *request* says; return the module's result.

    *run* is like AnsibleModule.run_command.
    Raises GearvisorError (InvalidOption for the user's input) with nothing changed, or after the
    old files have been put back.
    """
    if os.geteuid() != 0:
        raise GearvisorError(
            "This manages a service of the host and must run as root. Set become: true"
        )
    release.check_supported()
    if request.state == "absent":
        return _absent(request, run, check_mode)
    return _present(request, run, check_mode)


def check_identity(identity, settings):
    """Return Facts of a certificate that does what *settings* need; raises InvalidOption."""
    for part, text in zip(identity._fields, identity):
        if not text.strip():
            raise InvalidOption(part, "", "is empty", _WAYS_OUT[part])
    try:
        facts = None
        if settings.servers:
            facts = certificates.check_as_client(identity)
        if settings.serve is not None:
            facts = certificates.check_as_server(identity, settings.serve.name)
        return facts
    except certificates.CertificateError as error:
        clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        raise InvalidOption(
            error.part,
            "(PEM text)",
            str(error),
            f"{_WAYS_OUT[error.part]}. This host's clock says {clock}",
        ) from None


def _present(request, run, check_mode):
    warnings = []
    settings, identity = request.settings, request.identity
    missing = [part for part, text in zip(identity._fields, identity) if not text.strip()]
    facts = None
    if check_mode and missing:
        warnings.append(f"{', '.join(missing)}: not there yet, so not checked")
    else:
        facts = check_identity(identity, settings)
        warnings += expiry_warnings(facts, time.time())
    keeper = service.choose(request.service_manager, run, check_mode)
    running = keeper.process()
    _check_listeners(settings, running)
    installed = packages.installed_versions(run, [PACKAGE])
    wanted = packages.missing(installed, {PACKAGE: None})
    files = _files(settings, identity, keeper)
    actions = [f"install {specification}" for specification in wanted]
    actions += keeper.preparations(bool(installed))
    if running is None:
        actions.append("start stunnel")
    elif files.changed():
        actions.append("reload stunnel")
    if actions and not check_mode:
        if wanted:
            packages.install(run, wanted, "state: 'present'")
        _apply(request, keeper, files, running)
    return {
        "changed": bool(actions),
        "service_manager": keeper.name,
        "actions": actions,
        "files": sorted(files.changed()),
        "expires": _date(facts.expires) if facts else None,
        "warnings": warnings,
        "diff": _diff(files, actions),
    }


def expiry_warnings(facts, now):
    """Return what there is to say about a certificate that ends soon."""
    days = int((facts.expires - now) // _DAY)
    if days >= _WARN_DAYS:
        return []
    return [
        f"certificate: ends in {days} days, on {_date(facts.expires)}. "
        "Give a new one; site.yml and playbooks/ca.yml renew those of the private authority"
    ]


def _date(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _check_listeners(settings, running):
    """Refuse addresses that are not this host's, and ports that others listen on."""
    own = running.socket_inodes() if running else set()
    for option, host, port in stunnel.listeners(settings):
        try:
            addresses = ports.local_addresses(host)
        except InvalidOption as error:
            raise GearvisorError(f"serve.{error}", **error.details) from None
        if option == "serve.listen" and all(address.is_loopback for address in addresses):
            raise InvalidOption(
                option,
                host,
                "is a loopback address here, which other hosts cannot reach",
                "Use the address by which they reach this host (gearman_tunnel_listen)",
            )
        for listener in ports.conflicts(addresses, port, ports.listeners()):
            if listener.inode in own:
                continue
            holder = ports.holder(listener.inode)
            who = f"{holder.name()} (pid {holder.pid})" if holder else "a process that is not seen"
            raise InvalidOption(
                option.replace("listen", "port"),
                port,
                f"is taken on {listener.address} by {who}",
                "Stop that process, or choose another port",
            )


def _files(settings, identity, keeper):
    after = {
        stunnel.CA: identity.ca,
        stunnel.CERTIFICATE: identity.certificate,
        stunnel.KEY: identity.key,
        stunnel.CONFIG: stunnel.config_text(settings),
        **keeper.files(),
    }
    after = {path: text if text.endswith("\n") else text + "\n" for path, text in after.items()}
    before = {path: read_text(path) for path in after}
    if before[stunnel.KEY] is not None and not _is_private(stunnel.KEY):
        before[stunnel.KEY] = ""
    return Files(before, after)


def _is_private(path):
    """Tell whether the key is readable by stunnel's user alone."""
    found = os.stat(path)
    try:
        owner = pwd.getpwnam(stunnel.USER).pw_uid
    except KeyError:
        return False
    return found.st_uid == owner and found.st_mode & 0o777 == 0o600


def _apply(request, keeper, files, running):
    changed = files.changed()
    try:
        _write(changed)
        keeper.prepare()
        if running is None:
            keeper.start()
        elif changed:
            keeper.reload(running)
        _wait_ready(request)
    except (GearvisorError, OSError) as error:
        log = keeper.last_lines()
        if running is None:
            keeper.remove()
        _write({path: files.before[path] for path in changed})
        keeper.forget()
        if running is not None:
            keeper.reload(running)
        said = f". The last lines of its log: {log}" if log else ""
        raise GearvisorError(f"{error}. The old files are back{said}") from error


def _write(texts):
    """Write the files, the key last among those that stunnel reads together."""
    for path, text in texts.items():
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if path == stunnel.KEY:
            owner = pwd.getpwnam(stunnel.USER)
            restore_text(path, text, 0o600, owner.pw_uid, owner.pw_gid)
        else:
            restore_text(path, text, 0o644)


def _wait_ready(request):
    """Return when stunnel listens everywhere and shows the certificate that it shall."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        missing = _unready(request)
        if missing is None:
            return
        if time.monotonic() >= deadline:
            raise GearvisorError(f"After {_READY_SECONDS} s stunnel still {missing}")
        time.sleep(0.1)


def _unready(request):
    """Return what stunnel does not do yet, or None."""
    listening = ports.listeners()
    for _option, host, port in stunnel.listeners(request.settings):
        if not ports.conflicts(ports.local_addresses(host), port, listening):
            return f"does not listen on {stunnel.endpoint(host, port)}"
    serve = request.settings.serve
    if serve is not None and _presented(serve, request.identity) != certificates.leaf(
        request.identity.certificate
    ):
        return f"does not show its new certificate on port {serve.port}"
    return None


def _presented(serve, identity):
    """Return the certificate, in DER form, that this host's clients get to see; None when none."""
    address = str(ports.local_addresses(serve.listen)[0])
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    context = certificates.client_context(identity)
    try:
        plain = socket.create_connection((target, serve.port), timeout=2)
        with plain, context.wrap_socket(plain) as tls:
            return tls.getpeercert(binary_form=True)
    except (OSError, ssl.SSLError):
        return None


def _absent(request, run, check_mode):
    keeper = service.choose(request.service_manager, run, check_mode)
    paths = [stunnel.CONFIG, stunnel.KEY, stunnel.CERTIFICATE, stunnel.CA, *keeper.files()]
    before = {path: text for path, text in ((p, read_text(p)) for p in paths) if text is not None}
    files = Files(before, dict.fromkeys(before))
    running = keeper.process()
    actions = (["stop stunnel"] if running else []) + [f"remove {path}" for path in files.changed()]
    if actions and not check_mode:
        keeper.remove()
        _write(files.after)
        remove_empty(stunnel.DIRECTORY, os.path.dirname(stunnel.DIRECTORY))
        keeper.forget()
    return {
        "changed": bool(actions),
        "service_manager": keeper.name,
        "actions": actions,
        "files": sorted(files.changed()),
        "expires": None,
        "warnings": [],
        "diff": _diff(files, actions),
    }


def _diff(files, actions):
    shown = diffs(files.before, files.changed(), _without_key)
    return shown + ([{"prepared": "\n".join(actions) + "\n"}] if actions else [])


def _without_key(text):
    return _PRIVATE_KEY.sub("(a private key)\n", text)
