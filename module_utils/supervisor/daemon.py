# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord itself: Debian's package, set up, running, enabled and answering.

Settings go into an included file of Gearvisor, which supervisord reads as if it
were part of Debian's supervisord.conf, and into a systemd drop-in. Neither is
ever a reason to restart a supervisord that runs, since that would restart
every program: the limit of open files is raised from outside, and what only a
start can bring (the web interface) is reported as pending.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import re
import resource
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import packages, systemd
from ..host.changes import ChangeSet
from ..outcome import prepared
from . import config_file, fleet, ownership, values
from .rpc import PasswordWanted, SupervisordUnavailable, of_config
from .scripts import end_orphans, retry_fatal

PACKAGE = "supervisor"
SETTINGS = "/etc/supervisor/conf.d/00-supervisord.conf"
DROP_IN = "/etc/systemd/system/supervisor.service.d/gearvisor.conf"
LISTENER = "/usr/local/lib/gearvisor/retry_fatal.py"
ORPHANS = "/usr/local/lib/gearvisor/end_orphans.py"
_LISTENER_FLEET = "supervisor-daemon"
_READY_SECONDS = 30


class Web(NamedTuple):
    """The web interface, on loopback only."""

    port: int
    username: str
    password: str


class Request(NamedTuple):
    """*minfds*: open files; *stop_timeout*, *retry_fatal*: seconds, 0 for no retries; *web*: Web or None."""

    state: str = "present"
    version: str = None
    minfds: int = 8192
    stop_timeout: int = 330
    retry_fatal: int = 60
    web: Web = None


# Lowest, highest, and where the limit comes from.
_BOUNDS = {
    "minfds": (64, 1_048_576, "which the kernel gives no process by default (fs.nr_open)"),
    "stop_timeout": (1, 604_800, "a week"),
    "retry_fatal": (0, 604_800, "a week"),
}


def check(request):
    """Raise InvalidOption for values that cannot work."""
    for option, (least, most, why) in _BOUNDS.items():
        value = getattr(request, option)
        if value < least:
            raise InvalidOption(option, value, f"is below {least}", f"Use {least} or more")
        values.number(option, value, least, most, why)
    if request.web is None:
        return
    if not 1 <= request.web.port <= 65535:
        raise InvalidOption("web.port", request.web.port, "is not a port number", "Use 1 to 65535")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", request.web.username):
        raise InvalidOption(
            "web.username",
            request.web.username,
            "is not a valid name",
            "Use letters, digits, '_', '.' and '-'",
        )
    values.checked_text("web.password", request.web.password, shown="(not shown)")
    if not request.web.password:
        raise InvalidOption(
            "web.password",
            "(not shown)",
            "is empty",
            "Set one: anyone who can reach the port controls every program",
        )


def settings_text(request, hard_limit):
    """Return the text of the included settings file."""
    sections = {"supervisord": {"minfds": str(min(request.minfds, hard_limit))}}
    if request.web is not None:
        digest = hashlib.sha1(request.web.password.encode()).hexdigest()
        sections["inet_http_server"] = {
            "port": f"127.0.0.1:{request.web.port}",
            "username": request.web.username,
            # The one form besides plain text that supervisord takes.
            "password": "{SHA}" + digest,
        }
    return config_file.render_file("supervisord", sections)


def drop_in_text(request):
    """Return the text of the systemd drop-in."""
    # The listener takes the better score from all processes but supervisord.
    score = "OOMScoreAdjust=-900\n" if request.retry_fatal else ""
    return f"""# Written by Ansible (Gearvisor). Changes made here are lost.
[Service]
# What a killed supervisord has left finishes its jobs, and no second set serves beside it.
ExecStartPre=-/usr/bin/python3 {ORPHANS} 3
# supervisord would stop group after group, each with its own stopwaitsecs; this stops all at once.
ExecStop=
ExecStop=-/usr/bin/supervisorctl stop all
TimeoutStopSec={request.stop_timeout}
# Workers outlive a crash of supervisord and finish their jobs; a stop leaves none behind.
KillMode=process
ExecStopPost=-/usr/bin/python3 {ORPHANS} --after-stop 5
# Debian waits 50 s.
RestartSec=1
# A worker that takes too much memory is killed alone, and before supervisord.
OOMPolicy=continue
{score}# Debian's reload restarts every program; this one only those whose definition changed.
ExecReload=
ExecReload=/usr/bin/supervisorctl update
"""


def listener_programs(request):
    """Return the event listeners that look after FATAL processes and write states down, by name."""
    if not request.retry_fatal:
        return {}
    return {
        "retry-fatal": {
            "command": f"/usr/bin/python3 {LISTENER} {request.retry_fatal}",
            "events": ["PROCESS_STATE"],
            # One event a process, should all of a fleet fail at once.
            "buffer_size": 10000,
            "autorestart": True,
            "stdout_logfile": "NONE",
            "stderr_logfile": "/var/log/supervisor/retry-fatal.log",
            "stderr_logfile_maxbytes": "1MB",
            "stderr_logfile_backups": 1,
        }
    }


def converge(request, host):
    """Apply *request* to supervisord; return the module's result. Raises GearvisorError."""
    check_mode = host.check_mode
    check(request)
    installed = packages.installed_versions(host.run, [PACKAGE])
    if request.state == "absent":
        return _absent(host, installed)
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    changes = files(request, host, hard_limit)
    specifications = packages.missing(installed, {PACKAGE: request.version})
    active, enabled = _state(host)
    actions = []
    if specifications:
        actions.append(f"install {' '.join(specifications)}")
    if not enabled:
        actions.append("enable supervisor at boot")
    if not active:
        actions.append("start supervisor")
    elif specifications:
        actions.append("restart supervisor")
    if not check_mode:
        if specifications:
            packages.install(host.run, specifications, "state: 'present'")
        write(host, changes)
        _act(host, actions)
    warnings = []
    if request.minfds > hard_limit:
        warnings.append(f"minfds: this host allows only {hard_limit} of {request.minfds}")
    version = None
    if not check_mode or active:
        supervisord = _ready(host)
        version = supervisord.version()
        if not check_mode:
            _raise_file_limit(supervisord.pid(), min(request.minfds, hard_limit))
            if request.retry_fatal:
                _protect(supervisord.pid())
    web_changes = _web_of(changes.before(SETTINGS)) != _web_of(changes.after(SETTINGS))
    pending = active and web_changes
    if pending:
        warnings.append(
            "web: takes effect when supervisord is restarted, which restarts every program, so that is "
            "left to you: 'systemctl restart supervisor' or 'service supervisor restart'"
        )
    listener = fleet.converge(
        fleet.Request(
            programs={},
            event_listeners=listener_programs(request),
            fleet=_LISTENER_FLEET,
            purge=True,
        ),
        fleet.Host(host.run),
        check_mode,
    )
    return {
        "changed": bool(actions or changes.changed or listener["changed"]),
        "actions": actions,
        "files": sorted([*changes.paths(), *listener["files"]]),
        "version": version,
        "restart_pending": bool(pending),
        "warnings": warnings,
        "diff": [*changes.diff(), *listener["diff"], *prepared(actions)],
    }


def files(request, host, hard_limit):
    """Return the ChangeSet of the files that supervisord has from here."""
    changes = ChangeSet(host)
    settings = settings_text(request, hard_limit)
    changes.want(SETTINGS, settings, 0o600, mask=_without_password)
    changes.want(LISTENER, inspect.getsource(retry_fatal))
    changes.want(ORPHANS, inspect.getsource(end_orphans))
    if host.systemd:
        changes.want(DROP_IN, drop_in_text(request))
    return changes


def _without_password(content):
    return re.sub(r"^password=.*$", "password=***", content, flags=re.MULTILINE)


def _web_of(content):
    return config_file.parse_sections(content or "").get("inet_http_server")


def write(host, changes):
    """Write the ChangeSet of files, regardless of root's umask."""
    if changes.changed:
        with changes.applied():
            if DROP_IN in changes:
                _run(host, ["systemctl", "daemon-reload"])


def _raise_file_limit(pid, least):
    """Raise the running supervisord's limit of open files, which its children inherit."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if soft < least <= hard:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, hard))


def _protect(pid):
    """Let the memory killer take others first; a container may not be allowed to."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("-900")


def _state(host):
    """Return (running, started at boot)."""
    if host.systemd:
        shown = systemd.Unit(PACKAGE, host.run).show("ActiveState", "UnitFileState")
        active = shown.get("ActiveState") in ("active", "reloading")
        return active, shown.get("UnitFileState") == "enabled"
    try:
        of_config(fleet.CONFIG).wait_ready(0)
    except PasswordWanted:
        return True, True
    except SupervisordUnavailable:
        # Whether it starts at boot depends on how this host is started: it has no init to ask.
        return False, True
    return True, True


def _act(host, actions):
    for action in actions:
        verb = action.split()[0]
        if verb == "enable":
            _run(host, ["systemctl", "enable", "--quiet", PACKAGE])
        elif verb in ("start", "restart"):
            _run(host, ["service", PACKAGE, verb])


def _run(host, argv):
    rc, out, err = host.run(argv)
    if rc != 0:
        raise GearvisorError(
            f"state: 'present' needs '{' '.join(argv)}', which failed: {(err or out).strip()}. "
            "See 'journalctl -u supervisor' and /var/log/supervisor/supervisord.log on the host"
        )


def _ready(host):
    supervisord = of_config(fleet.CONFIG)
    supervisord.wait_ready(_READY_SECONDS)
    return supervisord


def _absent(host, installed):
    changes = ChangeSet(host)
    note = ownership.path(fleet.Host(host.run).fleets, _LISTENER_FLEET)
    for path in (SETTINGS, LISTENER, ORPHANS, DROP_IN, _listener_file(), note):
        changes.want(path, None, mask=_without_password)
    if not host.check_mode:
        if installed:
            packages.remove(host.run, [PACKAGE])
        write(host, changes)
        # Not if others have files there.
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(DROP_IN))
    actions = [f"remove {name}" for name in installed]
    return {
        "changed": bool(actions or changes.changed),
        "actions": actions,
        "files": changes.paths(),
        "version": None,
        "restart_pending": False,
        "warnings": [],
        "diff": [*changes.diff(), *prepared(actions)],
    }


def _listener_file():
    return os.path.join(fleet.DIRECTORY, "retry-fatal.conf")
