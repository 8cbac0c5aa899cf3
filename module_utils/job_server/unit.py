# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd drop-in and the Supervisor program that run gearmand. All pure."""

from __future__ import annotations

import os.path

from . import config, options


def _live(settings):
    """Return [(section, name, value)] of what systemd takes in without a restart; None is unset.

    gearmand always comes back: a server that gave up would need a person.
    """
    after = ["network-online.target", *filter(None, [settings.queue.backend.unit])]
    return [
        ("Unit", "Wants", "network-online.target"),
        ("Unit", "After", " ".join(after)),
        ("Unit", "StartLimitIntervalSec", "0"),
        ("Service", "PermissionsStartOnly", "false"),
        ("Service", "ExecStartPost", f"-{' '.join(config.max_queue_command())}"),
        ("Service", "Restart", "always"),
        ("Service", "RestartSec", "1"),
        ("Service", "MemoryMax", settings.memory_max),
    ]


def _at_start(settings):
    """Return [(section, name, value)] of what a process has from its start; None is unset.

    They make Debian's unit run gearmand in the foreground, and locked in. GEARMAND_PORT would
    overrule --port=4730.
    """
    # SQLite makes its journal beside the file.
    path = settings.queue.path and os.path.dirname(settings.queue.path)
    return [
        ("Service", "Type", "simple"),
        ("Service", "PIDFile", ""),
        ("Service", "EnvironmentFile", ""),
        ("Service", "UnsetEnvironment", "GEARMAND_PORT"),
        ("Service", "ExecStartPre", ""),
        ("Service", "ExecStart", ""),
        ("Service", "ExecStart", " ".join(config.systemd_command())),
        ("Service", "User", config.USER),
        ("Service", "RuntimeDirectory", "gearman"),
        ("Service", "LimitNOFILE", settings.file_descriptors or config.FILE_DESCRIPTORS),
        *(("Service", *line.split("=", 1)) for line in _HARDENING.splitlines()),
        ("Service", "ReadWritePaths", path),
    ]


_LIVE = frozenset((section, name) for section, name, _value in _live(options.Settings()))


def drop_in_text(settings):
    """Return the drop-in for Debian's unit."""
    lines = [config.MARK]
    section = None
    for group, name, value in [*_live(settings), *_at_start(settings)]:
        if value is None:
            continue
        if group != section:
            lines += [*([""] if section else []), f"[{group}]"]
            section = group
        lines.append(f"{name}={value}")
    return "\n".join([*lines, ""])


def at_start(text):
    """Return what a process had from its start of a drop-in's text (or None)."""
    section, result = None, []
    for line in (text or "").splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        elif "=" in line and not line.startswith("#"):
            name, _equals, value = line.partition("=")
            if (section, name) not in _LIVE:
                result.append((section, name, value))
    return result


def supervisor_program(path=config.CONFIG):
    """Return the program as supervisor_programs takes it.

    It does not depend on the settings, so a change of them never replaces the program. The shell
    becomes gearmand; the script that sets the limits of functions is not its child and ends soon.
    """
    limits, server = (
        " ".join(config.max_queue_command(path)),
        " ".join(config.supervisor_command(path)),
    )
    return {
        "command": f"/bin/sh -c '( {limits} & ); exec {server}'",
        "process_name": "%(program_name)s",
        # Before the workers, which have 999.
        "priority": 10,
        "autorestart": True,
        "startsecs": 1,
        "stopwaitsecs": 30,
        "user": config.USER,
        # A value, even that of supervisord's environment, would overrule --port=4730.
        "environment": {"GEARMAND_PORT": ""},
        "redirect_stderr": True,
        "stdout_logfile": "/var/log/supervisor/gearman-job-server.log",
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": 5,
    }


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
