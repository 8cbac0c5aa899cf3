# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gearmand's options: typed, as configuration text, and as a running server has them. All pure.

gearmand reads its configuration file as words separated by white space, without quoting, and
checks next to nothing: --port=70000 listens on 4464, --job-retries=300 means 44. So values are
settled here.
"""

from __future__ import annotations

import argparse
import inspect
import os.path
import re
from typing import NamedTuple

from ..failure import InvalidOption
from . import function_limit, queues

CONFIG = "/etc/gearman/gearmand.conf"
PID_FILE = "/run/gearman/gearmand.pid"
GEARMAND = "/usr/sbin/gearmand"
USER = "gearman"
PURGED = "/var/lib/gearman"
# The limits of functions, and what tells gearmand of them whenever it starts.
MAX_QUEUE = "/etc/gearman/max_queue.json"
MAX_QUEUE_SCRIPT = "/usr/local/lib/gearvisor/max_queue.py"
# Most of what it serves; far less memory than the limit that some containers come with.
FILE_DESCRIPTORS = 65536

MARK = "# Written by Ansible (Gearvisor, gearman_job_server). Changes made here are lost."

LATEST = "latest"
VERBOSITIES = ("FATAL", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

# Option: (lowest, highest, why).
_RANGES = {
    "port": (1, 65535, "gearmand does not check it and would listen elsewhere"),
    "threads": (0, 1024, "0 lets gearmand choose by the number of cores"),
    "backlog": (1, 65535, "it is the length of the kernel's queue of connections"),
    "job_retries": (1, 255, "gearmand keeps 8 bits of it, and 0 would repeat a bad job for ever"),
    "worker_wakeup": (0, 255, "gearmand keeps 8 bits of it; 0 wakes all workers"),
    # gearmand itself uses about 36 at 4 threads.
    "file_descriptors": (100, 1048576, "gearmand's own need comes before the first connection"),
}


class Settings(NamedTuple):
    """What gearmand is to be run with; the names are the module's options."""

    listen: str = "127.0.0.1"
    port: int = 4730
    threads: int = 4
    backlog: int = 32
    job_retries: int = 3
    round_robin: bool = True
    worker_wakeup: int = 0
    keepalive: bool = True
    file_descriptors: int = None
    verbosity: str = "ERROR"
    memory_max: str = None
    queue: queues.Queue = queues.Queue()


def typed_settings(options):
    """Return Settings of {option: value}; raises InvalidOption for what gearmand would misread."""
    if options.get("ssl"):
        raise InvalidOption(
            "ssl",
            True,
            "would be accepted and change nothing: Debian builds gearmand without TLS, so it"
            " speaks plain text whatever it is told",
            "Leave it out, and encrypt between hosts with the role gearman_tunnel",
        )
    values = {name: options[name] for name in Settings._fields if name in options}
    for name, (lowest, highest, why) in _RANGES.items():
        value = values.get(name)
        if value is not None and not lowest <= value <= highest:
            raise InvalidOption(
                name, value, f"is not from {lowest} to {highest}", f"Correct it: {why}"
            )
    if "listen" in values:
        _check_word("listen", values["listen"])
        # A host name may hold "--" (xn--...), so only the beginning is looked at.
        if values["listen"].startswith("-") or not re.search(r"[\w:]", values["listen"]):
            raise InvalidOption(
                "listen", values["listen"], "is no IP address or host name", "Use 127.0.0.1, say"
            )
    memory = values.get("memory_max")
    if memory is not None and not re.fullmatch(r"[1-9]\d*[KMGT]?|[1-9]\d?%", memory):
        raise InvalidOption(
            "memory_max", memory, "is no amount of memory", "Use 512M, 2G or 50%, say"
        )
    values["queue"] = queues.typed_queue(values.get("queue") or {})
    return Settings(**values)


def check_version(version):
    """Refuse a text that is no package version, the beginning of one and "*", or LATEST."""
    if version not in (None, LATEST) and not re.match(r"[0-9][A-Za-z0-9.+:~-]*\*?\Z", version):
        raise InvalidOption(
            "version",
            version,
            "is no version of a Debian package",
            "Use one that 'apt-cache madison gearman-job-server' lists, its beginning and '*', or latest",
        )


def _check_word(option, value):
    if not re.match(r"[^\s\0-\x1f\"'\\]+\Z", value):
        raise InvalidOption(
            option,
            value,
            "is empty or holds white space, a quote or a backslash, which gearmand's file cannot carry",
            "Use a name without them",
        )


def client_address(listen, port):
    """Return the "host:port" at which a client on this host reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", None: "127.0.0.1"}.get(listen, listen)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def config_text(settings, file_descriptors=None):
    """Return gearmand.conf. *file_descriptors* is written only when it is given.

    The comment must hold no word that begins with two dashes: gearmand would obey it.
    """
    lines = [
        MARK,
        f"--listen={settings.listen}",
        f"--port={settings.port}",
        f"--threads={settings.threads}",
        f"--backlog={settings.backlog}",
        f"--job-retries={settings.job_retries}",
        f"--worker-wakeup={settings.worker_wakeup}",
        f"--verbose={settings.verbosity}",
        *settings.queue.lines(),
    ]
    if file_descriptors is not None:
        lines.append(f"--file-descriptors={file_descriptors}")
    if settings.round_robin:
        lines.append("--round-robin")
    if settings.keepalive:
        lines.append("--keepalive")
    return "\n".join(lines) + "\n"


def own_limit(settings, hard_limit):
    """Return how many files gearmand has to allow itself; None when its unit says it.

    *hard_limit* is that of its service manager, None for systemd. Raises InvalidOption.
    """
    wanted = settings.file_descriptors
    if hard_limit is None:
        return None
    if wanted is None:
        return min(FILE_DESCRIPTORS, hard_limit)
    if wanted > hard_limit:
        raise InvalidOption(
            "file_descriptors",
            wanted,
            f"is above {hard_limit}, the hard limit of supervisord",
            f"Use {hard_limit} or less, or start supervisord with a higher limit",
        )
    return wanted


def is_ours(text):
    """Tell whether this module wrote the file."""
    return text.startswith(MARK)


def needs_restart(path, old, new):
    """Tell whether a running server is outdated by this change of a file (text or None)."""
    return path != MAX_QUEUE_SCRIPT and _at_start(old) != _at_start(new)


# What systemd takes from a drop-in without a restart.
_ANYTIME = (
    *("#", "[", "Wants=", "After=", "StartLimitIntervalSec=", "Restart=", "RestartSec="),
    *("PermissionsStartOnly=", "ExecStartPost=", "MemoryMax="),
)


def _at_start(text):
    return [line for line in (text or "").splitlines() if not line.startswith(_ANYTIME)]


def systemd_command(config=CONFIG):
    """Return the command line under systemd, which takes the log from stderr.

    Debian's logrotate sends HUP to the pid in PID_FILE, so that file must name this process:
    HUP then reopens stderr, which is harmless.
    """
    return [GEARMAND, f"--config-file={config}", "--log-file=stderr", f"--pid-file={PID_FILE}"]


def supervisor_command(config=CONFIG):
    """Return the command line under Supervisor.

    There is no pid file: after a reboot nothing would make its directory, and gearmand does not
    start without it.
    """
    return [GEARMAND, f"--config-file={config}", "--log-file=stderr"]


def max_queue_command(config=CONFIG):
    """Return the command line that gives a started gearmand the limits of its functions."""
    return ["/usr/bin/python3", MAX_QUEUE_SCRIPT, config, MAX_QUEUE]


def max_queue_script():
    """Return the text of that script."""
    return f"{MARK}\n{inspect.getsource(function_limit)}"


def drop_in_text(settings, config=CONFIG):
    """Return the drop-in that makes Debian's unit run gearmand in the foreground, and locked in.

    It comes back whatever happens: a server that gave up would need a person. GEARMAND_PORT
    would overrule --port=4730.
    """
    queue = settings.queue
    after = " ".join(["network-online.target", *filter(None, [queues.UNITS.get(queue.type)])])
    optional = []
    if queue.path:
        # SQLite makes its journal beside the file.
        optional.append(f"ReadWritePaths={os.path.dirname(queue.path)}")
    if settings.memory_max:
        optional.append(f"MemoryMax={settings.memory_max}")
    return "\n".join(
        [
            f"""{MARK}
[Unit]
Wants=network-online.target
After={after}
StartLimitIntervalSec=0

[Service]
Type=simple
PIDFile=
EnvironmentFile=
UnsetEnvironment=GEARMAND_PORT
PermissionsStartOnly=false
ExecStartPre=
ExecStart=
ExecStart={" ".join(systemd_command(config))}
ExecStartPost=-{" ".join(max_queue_command(config))}
User={USER}
RuntimeDirectory=gearman
LimitNOFILE={settings.file_descriptors or FILE_DESCRIPTORS}
Restart=always
RestartSec=1
{_HARDENING}""",
            *optional,
            "",
        ]
    )


_HARDENING = """\
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
PrivateDevices=true
ProtectProc=invisible
ProcSubset=pid
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
RemoveIPC=true
LockPersonality=true
MemoryDenyWriteExecute=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077"""


def supervisor_program(config=CONFIG):
    """Return the program as supervisor_programs takes it.

    It does not depend on the settings, so a change of them never replaces the program. The shell
    becomes gearmand; what sets the limits of functions beside it is nobody's child and soon gone.
    """
    limits, server = " ".join(max_queue_command(config)), " ".join(supervisor_command(config))
    return {
        "command": f"/bin/sh -c '( {limits} & ); exec {server}'",
        "process_name": "%(program_name)s",
        # Before the workers, which have 999.
        "priority": 10,
        "autorestart": True,
        "startsecs": 1,
        "stopwaitsecs": 30,
        "user": USER,
        # A value, even that of supervisord's environment, would overrule --port=4730.
        "environment": {"GEARMAND_PORT": ""},
        "redirect_stderr": True,
        "stdout_logfile": "/var/log/supervisor/gearman-job-server.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 5,
    }


class Running(NamedTuple):
    """What a running gearmand was started with, as far as a restart is concerned."""

    listen: str
    port: int
    queue: queues.Queue

    @property
    def address(self):
        return client_address(self.listen, self.port)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def running_settings(argv, file_text):
    """Return Running of a gearmand's command line and its configuration file's text (or None).

    It may be Debian's own or anybody's, so any of gearmand's spellings is read.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-L", "--listen")
    parser.add_argument("-p", "--port", type=int, default=4730)
    parser.add_argument("-q", "--queue-type", default="builtin")
    for name in queues.option_names():
        parser.add_argument(f"--{name}", dest=name)
    words = [word for word in (file_text or "").split() if word.startswith("-")]
    try:
        # The command line wins over the file.
        found, _others = parser.parse_known_args([*words, *argv[1:]])
    except ValueError:
        found = parser.parse_args([])
    return Running(
        found.listen,
        found.port,
        queues.running_queue({**vars(found), "queue-type": found.queue_type}),
    )


def config_file_of(argv):
    """Return the configuration file that a gearmand's command line names, or gearmand's default."""
    for word in argv[1:]:
        if word.startswith("--config-file="):
            return word.partition("=")[2]
    return "/etc/gearmand.conf"
