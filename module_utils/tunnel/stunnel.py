# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""stunnel's configuration, unit and Supervisor program, as text. All pure."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from ..failure import InvalidOption

DIRECTORY = "/etc/gearvisor/tunnel"
CONFIG = f"{DIRECTORY}/stunnel.conf"
CA = f"{DIRECTORY}/ca.pem"
CERTIFICATE = f"{DIRECTORY}/certificate.pem"
KEY = f"{DIRECTORY}/key.pem"
# The authority's certificate, and those of the peers that are accepted.
TRUSTED = f"{DIRECTORY}/trusted.pem"
STUNNEL = "/usr/bin/stunnel4"
USER = "stunnel4"
LOOPBACK = "127.0.0.1"
# Two a connection.
FILE_DESCRIPTORS = 65536
# A worker may wait for days. stunnel counts milliseconds in 32 bits, so this is near its most.
IDLE_SECONDS = 2000000

MARK = "Written by Ansible (Gearvisor, gearman_tunnel). Changes made here are lost."

_FILTERS = (
    "LockPersonality=true",
    "MemoryDenyWriteExecute=true",
    "ProtectKernelModules=true",
    "ProtectKernelTunables=true",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=true",
    "RestrictRealtime=true",
    "RestrictSUIDSGID=true",
    "SystemCallArchitectures=native",
)

# A peer that vanished is noticed within 30 + 3 * 10 seconds.
_KEEPALIVE = ("SO_KEEPALIVE=1", "TCP_KEEPIDLE=30", "TCP_KEEPINTVL=10", "TCP_KEEPCNT=3")


class Serve(NamedTuple):
    """This host's own job server, let through to the certificates with these names."""

    listen: str
    port: int
    job_server: str
    name: str
    clients: tuple


class Server(NamedTuple):
    """A job server elsewhere, reached on this host's loopback by *local_port*."""

    name: str
    address: str
    port: int
    local_port: int

    @property
    def local_address(self):
        return f"{LOOPBACK}:{self.local_port}"


class Settings(NamedTuple):
    """*serve*: Serve or None; *servers*: tuple of Server; *extra_lines*: more for stunnel.conf.

    *pinned*: peers must show one of the certificates in TRUSTED, not just any of the authority.
    """

    serve: Serve = None
    servers: tuple = ()
    extra_lines: tuple = ()
    pinned: bool = False


def typed_settings(serve, servers, extra_lines=(), pinned=False):
    """Return Settings of the module's options; raises InvalidOption."""
    if serve is None and not servers:
        raise InvalidOption(
            "servers",
            [],
            "is empty and serve is not given, so there is nothing to tunnel",
            "Name the job servers, or use state: absent",
        )
    if serve is not None:
        _check_port("serve.port", serve["port"])
        _check_name("serve.name", serve["name"])
        for name in serve["clients"]:
            _check_name("serve.clients", name)
        _check_host("serve.listen", serve["listen"])
        _check_endpoint("serve.job_server", serve["job_server"])
        # In one order, so that the inventory's order does not count as a change.
        clients = tuple(sorted({*serve["clients"], serve["name"]}))
        serve = Serve(**{**serve, "clients": clients})
    servers = tuple(Server(**server) for server in servers)
    for server in servers:
        _check_name("servers.name", server.name)
        _check_host("servers.address", server.address)
        _check_port("servers.port", server.port)
        _check_port("servers.local_port", server.local_port)
    for field in ("name", "local_port"):
        values = [getattr(server, field) for server in servers]
        for value in values:
            if values.count(value) > 1:
                raise InvalidOption(
                    f"servers.{field}", value, "is used by two job servers", "Give each its own"
                )
    for line in extra_lines:
        _check_extra_line(line)
    return Settings(serve, servers, tuple(extra_lines), pinned)


# What makes the tunnel what it is, and what would run programs or write files.
_OWN_KEYS = """
accept capath cafile cert checkemail checkhost checkip chroot client config connect crlfile crlpath delay engine
exec execargs foreground include key logid output pid protocol redirect requirecert service setgid setuid
sslversion sslversionmin syslog ticketkeysecret ticketmacsecret verify verifychain verifypeer
"""


def _check_extra_line(line):
    key = re.match(r"([A-Za-z]+)\s*=\s*[\x20-\x7e]*\Z", line)
    if key is None:
        raise InvalidOption(
            "extra_lines", line, "is not key = value", "Write one global setting a line"
        )
    if key.group(1).lower() in _OWN_KEYS.split():
        raise InvalidOption(
            "extra_lines",
            line,
            f"sets {key.group(1)}, which the module sets itself",
            "Leave it out; see stunnel(8) for settings such as ciphers, curves or TIMEOUTbusy",
        )


def _check_port(option, port):
    if not 1024 <= port <= 65535:
        raise InvalidOption(
            option,
            port,
            "is not from 1024 to 65535",
            f"Use such a port: stunnel runs as {USER}, not as root",
        )


def _check_name(option, name):
    if not re.match(r"[A-Za-z0-9_:][A-Za-z0-9._:-]{0,252}\Z", name):
        raise InvalidOption(
            option,
            name,
            "is not a name that a certificate can have",
            "Use a host name, without wildcards",
        )


def _check_host(option, host):
    if not re.match(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]{0,252}\Z", host):
        raise InvalidOption(
            option,
            host,
            "is not an IP address or host name",
            "Use 192.0.2.11 or a name, without a port",
        )


def _check_endpoint(option, endpoint):
    match = re.match(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})\Z", endpoint)
    if match is None or not 1 <= int(match.group(1)) <= 65535:
        raise InvalidOption(option, endpoint, "is not host:port", "Use for example 127.0.0.1:4730")


def endpoint(host, port):
    """Return the address as stunnel takes it: what follows the last colon is the port."""
    return f"{host.strip('[]')}:{port}"


def config_text(settings):
    """Return stunnel.conf."""
    lines = [
        f"; {MARK}",
        "foreground = yes",
        "syslog = no",
        # Notices are for each connection, who it is: a job server's log has them, a client's need not.
        f"debug = {'warning' if settings.serve is None else 'notice'}",
        "pid =",
        "sslVersionMin = TLSv1.2",
        f"cert = {CERTIFICATE}",
        f"key = {KEY}",
        f"CAfile = {TRUSTED if settings.pinned else CA}",
        "verifyChain = yes",
        *(["verifyPeer = yes"] if settings.pinned else []),
        "requireCert = yes",
        f"TIMEOUTidle = {IDLE_SECONDS}",
        "TIMEOUTconnect = 5",
        *(f"socket = {side}:{option}" for side in "lr" for option in _KEEPALIVE),
        *settings.extra_lines,
    ]
    serve = settings.serve
    if serve is not None:
        host, _colon, port = serve.job_server.rpartition(":")
        lines += [
            "",
            "[job-server]",
            f"accept = {endpoint(serve.listen, serve.port)}",
            f"connect = {endpoint(host, port)}",
            # A certificate of the authority with none of these names is refused.
            *(_name_check(name) for name in serve.clients),
        ]
    for server in settings.servers:
        lines += [
            "",
            f"[to-{server.name}]",
            "client = yes",
            f"accept = {server.local_address}",
            f"connect = {endpoint(server.address, server.port)}",
            # Names are looked up with each connection, not once at the start.
            "delay = yes",
            _name_check(server.name),
        ]
    return "\n".join(lines) + "\n"


def trial_text(settings):
    """Return stunnel.conf for a trial: on ports that are free, with nothing behind them."""
    text = re.sub(r"(?m)^accept = .*$", f"accept = {LOOPBACK}:0", config_text(settings))
    return re.sub(r"(?m)^(cert|key|CAfile) = /.*/", r"\1 = ", text)


def _name_check(name):
    """Return the line that asks for a name; a certificate keeps IP addresses apart from host names."""
    try:
        return f"checkIP = {ipaddress.ip_address(name)}"
    except ValueError:
        return f"checkHost = {name}"


def unit_text(in_container=False):
    """Return the systemd unit. Nothing in it depends on the settings.

    Filters of system calls are left out in a container: what runs that has its own, and Debian 13's
    systemd cannot start a unit with any as another user there (status 217).
    """
    filters = "" if in_container else "\n" + "\n".join(_FILTERS)
    return f"""# {MARK}
[Unit]
Description=TLS tunnel of the Gearman job servers
Documentation=man:stunnel4(8)
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={STUNNEL} {CONFIG}
ExecReload=/bin/kill -HUP $MAINPID
User={USER}
Restart=always
RestartSec=1
LimitNOFILE={FILE_DESCRIPTORS}
# One thread per connection.
TasksMax=infinity
CapabilityBoundingSet=
NoNewPrivileges=true
PrivateTmp=true
ProtectControlGroups=true
ProtectHome=true
ProtectSystem=strict{filters}

[Install]
WantedBy=multi-user.target
"""


def supervisor_program():
    """Return the program as supervisor_programs takes it. Nothing in it depends on the settings."""
    return {
        "command": f"{STUNNEL} {CONFIG}",
        "process_name": "%(program_name)s",
        # After gearmand (10), before the workers (999).
        "priority": 20,
        "autorestart": True,
        "startsecs": 1,
        "startretries": 60,
        "user": USER,
        "redirect_stderr": True,
        "stdout_logfile": "/var/log/supervisor/gearman-tunnel.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 5,
    }


def listeners(settings):
    """Return [(option, address, port)] of where stunnel is to listen; addresses may be names."""
    result = []
    if settings.serve is not None:
        result.append(("serve.listen", settings.serve.listen, settings.serve.port))
    for server in settings.servers:
        result.append(("servers.local_port", LOOPBACK, server.local_port))
    return result


def is_loopback(address):
    """Return whether the IP address is reached from its own host only."""
    return ipaddress.ip_address(address).is_loopback
