# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges one host's end of the TLS tunnel.

Certificates, addresses and ports are checked before anything is changed. stunnel then reloads, which open
connections do not notice; when it does not serve as it should, the old files are put back. It is
restarted for one reason only: to end connections that a retired certificate has opened.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import tempfile
import time
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import packages
from ..host.builder import Builder
from ..host.changes import ChangeSet
from ..host.directories import make, remove_empty
from ..host.files import read_text, write_text
from ..job_server import ports
from ..keeper import choice
from ..keeper.service import Service
from ..outcome import Outcome, prepared
from . import certificates, stunnel

PACKAGE = "stunnel4"
NAME = "gearman-tunnel"
UNIT_FILE = f"/etc/systemd/system/{NAME}.service"
# The stunnel that a retired certificate may still have connections to, until it is restarted.
RETIRED = "/var/lib/gearvisor/tunnel-retired"
# systemd writes there what kind of container it runs in.
_CONTAINER = "/run/systemd/container"
_READY_SECONDS = 15
_TRIAL_SECONDS = 1
_ENDED_BY_TIMEOUT = 124
_WARN_DAYS = 21
_DAY = 24 * 60 * 60
_MOST_PEERS = 10_000
_WAYS_OUT = {
    "ca": "Give the authority's certificate, or several, as PEM text",
    "certificate": "Give this host's certificate as PEM text, with intermediate ones after it, if any; "
    "playbooks/ca.yml makes one",
    "key": "Give the certificate's private key as PEM text, without a password",
}
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL)


class Request(NamedTuple):
    """*settings* and *identity* are None with state: absent.

    *peers*: PEM texts of the only certificates that are accepted; empty for any of the authority.
    *end_retired*: end connections that were opened with certificates that are not accepted any more.
    """

    settings: stunnel.Settings
    identity: certificates.Identity
    state: str = "present"
    service_manager: str = "auto"
    peers: tuple = ()
    end_retired: bool = False


def request_of(params):
    """Return the Request of the module's parameters; raises InvalidOption."""
    settings = identity = None
    peers = tuple(params["peers"])
    if params["state"] == "present":
        settings = stunnel.typed_settings(
            params["serve"], params["servers"], params["extra_lines"], bool(peers)
        )
        # What is null counts as empty, which is named with its way out.
        identity = certificates.Identity(
            *(params[name] or "" for name in certificates.Identity._fields)
        )
    return Request(
        settings, identity, params["state"], params["service_manager"], peers, params["end_retired"]
    )


def converge(request, host):
    """Apply *request* to the host's tunnel; return the Outcome.

    Raises GearvisorError (InvalidOption for the user's input) with nothing changed, or after the
    old files have been put back.
    """
    if request.state == "absent":
        return _absent(request, host)
    return _present(request, host)


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
            f"{_WAYS_OUT[error.part]}. This host's clock shows {clock}",
        ) from None


def _keeper(request, host):
    service = Service(
        name=NAME,
        executable=stunnel.STUNNEL,
        fleet="gearman_tunnel",
        unit_files={UNIT_FILE: stunnel.unit_text(os.path.exists(host.path(_CONTAINER)))},
        program=stunnel.supervisor_program(),
    )
    return choice.choose(service, request.service_manager, host.run, host.check_mode)


def _present(request, host):
    warnings, facts = [], None
    settings, identity = request.settings, request.identity
    missing = [part for part, text in zip(identity._fields, identity) if not text.strip()]
    if host.check_mode and missing:
        warnings.append(f"{', '.join(missing)}: not there yet, so not checked")
    else:
        facts = check_identity(identity, settings)
        warnings += expiry_warnings(facts, time.time())
    accepted = _accepted(request.peers)
    keeper = _keeper(request, host)
    process = keeper.process()
    _check_listeners(settings, process)
    installed = packages.installed_versions(host.run, [PACKAGE])
    wanted = packages.missing(installed, {PACKAGE: None})
    preview = keeper.preview(True)
    if wanted and not host.check_mode:
        packages.install(host.run, wanted, "state: 'present'")
    changes = _changes(request, accepted, keeper, host)
    if settings.extra_lines and stunnel.CONFIG in changes and not (wanted and host.check_mode):
        _try(settings, identity, host)
    retired = _retired_process(request, changes, accepted, process, host)
    actions = [f"install {specification}" for specification in wanted] + list(preview.lines)
    if process is None:
        actions.append("start stunnel")
    elif retired:
        actions.append("restart stunnel: it may have connections of certificates that were retired")
    elif changes.changed or preview.redefines:
        actions.append("reload stunnel")
    if (actions or changes.changed) and not host.check_mode:
        _apply(request, host, keeper, changes, process, retired)
    return Outcome(
        bool(actions or changes.changed),
        actions,
        sorted([*changes.paths(), *preview.paths]),
        changes.diff() + list(preview.diffs) + prepared(actions),
        warnings,
        {
            "service_manager": keeper.manager,
            "expires": _date(facts.expires) if facts else None,
        },
    )


def expiry_warnings(facts, now):
    """Return the warnings about a certificate that ends soon."""
    days = int((facts.expires - now) // _DAY)
    if days >= _WARN_DAYS:
        return []
    return [
        f"certificate: expires in {days} days, on {_date(facts.expires)}. "
        "Give a new one; site.yml and playbooks/ca.yml renew those of the private authority"
    ]


def _date(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _accepted(peers):
    """Return {DER form: PEM text} of the peers' certificates; raises InvalidOption."""
    if len(peers) > _MOST_PEERS:
        raise InvalidOption(
            "peers", f"({len(peers)} texts)", f"is above {_MOST_PEERS}", "Leave peers out"
        )
    try:
        return {certificates.leaf(text): text for text in peers}
    except (ValueError, UnicodeError):
        raise InvalidOption(
            "peers", "(PEM text)", "is not a certificate in PEM form", "Give one certificate each"
        ) from None


def _retired_process(request, changes, accepted, process, host):
    """Return the identity of the process that a certificate that is retired may be connected to, or None."""
    if process is None or request.settings.serve is None:
        return None
    noted = read_text(host.path(RETIRED))
    if noted == process.identity():
        return noted
    if not request.end_retired or not accepted:
        return None
    before, authorities = (
        certificates.leaves(changes.before(path) or "") for path in (stunnel.TRUSTED, stunnel.CA)
    )
    # Without a list before, any certificate of the authority was accepted.
    return process.identity() if not before or before - authorities - set(accepted) else None


def _check_listeners(settings, process):
    """Refuse addresses that are not this host's, and ports that others listen on."""
    own = process.socket_inodes() if process else set()
    for option, address, port in stunnel.listeners(settings):
        try:
            addresses = ports.local_addresses(address)
        except InvalidOption as error:
            details = {**error.details, "option": "serve.listen"}
            raise GearvisorError(f"serve.{error}", **details) from None
        if option == "serve.listen" and all(one.is_loopback for one in addresses):
            raise InvalidOption(
                option,
                address,
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


def _changes(request, accepted, keeper, host):
    identity = request.identity
    # In one order, so that the inventory's order does not count as a change.
    texts = [identity.ca, *(accepted[der] for der in sorted(accepted))]
    trusted = "".join(map(_ended, texts)) if accepted else None
    changes = ChangeSet(host)
    changes.want_directory(os.path.dirname(stunnel.DIRECTORY))
    changes.want_directory(stunnel.DIRECTORY)
    changes.want(stunnel.CA, _ended(identity.ca))
    changes.want(stunnel.TRUSTED, trusted)
    changes.want(stunnel.CERTIFICATE, _ended(identity.certificate))
    key = _ended(identity.key)
    changes.want(stunnel.KEY, key, 0o600, stunnel.USER, stunnel.USER, mask=_without_key)
    changes.want(stunnel.CONFIG, stunnel.config_text(request.settings))
    for path, text in keeper.files().items():
        changes.want(path, text)
    return changes


def _ended(text):
    return text if text.endswith("\n") else text + "\n"


def _try(settings, identity, host):
    """Have stunnel read the configuration, without one of Gearvisor's ports. Raises InvalidOption."""
    with (
        tempfile.TemporaryDirectory(prefix="gearvisor-tunnel-") as directory,
        Builder(host.run) as user,
    ):
        texts = {
            "stunnel.conf": stunnel.trial_text(settings),
            os.path.basename(stunnel.CERTIFICATE): identity.certificate,
            os.path.basename(stunnel.KEY): identity.key,
            os.path.basename(stunnel.CA): identity.ca,
            os.path.basename(stunnel.TRUSTED): identity.ca,
        }
        for name, text in texts.items():
            path = os.path.join(directory, name)
            write_text(path, text, 0o600, -1, -1)
            user.give(path)
        user.give(directory)
        rc, _out, err = user.run(
            [stunnel.STUNNEL, "stunnel.conf"], cwd=directory, seconds=_TRIAL_SECONDS
        )
    if rc != _ENDED_BY_TIMEOUT:
        reasons = [line[4:] for line in err.splitlines() if line.startswith("[!]")] or [err.strip()]
        raise InvalidOption(
            "extra_lines",
            list(settings.extra_lines),
            f"is refused by stunnel: {'; '.join(reasons[-3:])}",
            "Correct them; see stunnel(8)",
        )


def _apply(request, host, keeper, changes, process, retired):
    if retired:
        # Before the files: a run that is killed after them leaves it to the next run.
        path = host.path(RETIRED)
        make(os.path.dirname(path))
        write_text(path, retired, 0o600)
    log = ""
    try:
        with changes.applied():
            try:
                keeper.restart() if retired else keeper.start()
                if process is not None and not retired:
                    keeper.reload(process)
                _wait_ready(request)
            except BaseException:
                log = keeper.last_lines()
                if process is None:
                    keeper.remove()
                raise
    except (GearvisorError, OSError) as error:
        keeper.reread()
        now = keeper.process()
        if process is not None and now is not None:
            keeper.reload(now)
        log_lines = f". The last lines of its log: {log}" if log else ""
        raise GearvisorError(f"{error}. The old files are back{log_lines}") from error
    if retired or os.path.exists(host.path(RETIRED)):
        os.unlink(host.path(RETIRED))


def _wait_ready(request):
    """Return when stunnel listens everywhere and shows the certificate that it should."""
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
    for _option, address, port in stunnel.listeners(request.settings):
        if not ports.conflicts(ports.local_addresses(address), port, listening):
            return f"does not listen on {stunnel.endpoint(address, port)}"
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


def _absent(request, host):
    keeper = _keeper(request, host)
    changes = ChangeSet(host)
    own = (stunnel.CONFIG, stunnel.KEY, stunnel.CERTIFICATE, stunnel.CA, stunnel.TRUSTED, RETIRED)
    for path in (*own, *keeper.files()):
        changes.want(path, None, mask=_without_key)
    preview = keeper.preview(False)
    process = keeper.process()
    actions = (["stop stunnel"] if process else []) + list(preview.lines)
    actions += [f"remove {path}" for path in changes.paths()]
    if actions and not host.check_mode:
        keeper.remove()
        with changes.applied():
            keeper.reread()
        directories = (stunnel.DIRECTORY, os.path.dirname(stunnel.DIRECTORY))
        remove_empty(*(host.path(directory) for directory in directories))
    return Outcome(
        bool(actions),
        actions,
        sorted([*changes.paths(), *preview.paths]),
        changes.diff() + list(preview.diffs) + prepared(actions),
        details={"service_manager": keeper.manager, "expires": None},
    )


def _without_key(text):
    return _PRIVATE_KEY.sub("(a private key)\n", text)
