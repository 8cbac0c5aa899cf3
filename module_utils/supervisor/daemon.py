# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord itself: Debian's package, running, enabled and answering."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..debian import packages
from ..debian.files import read_text
from ..failure import GearvisorError
from .fleet import CONFIG
from .rpc import Supervisord, SupervisordUnavailable, socket_settings

PACKAGE = "supervisor"
_READY_SECONDS = 30


class Request(NamedTuple):
    state: str = "present"
    version: str = None


class Host(NamedTuple):
    """*run* is like AnsibleModule.run_command; *systemd* tells whether systemd is PID 1."""

    run: object
    systemd: bool
    config: str = CONFIG


def booted_with_systemd():
    """Tell whether systemd runs this host (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def converge(request, host, check_mode=False):
    """Make supervisord what *request* says; return the module's result. Raises GearvisorError."""
    installed = packages.installed_versions(host.run, [PACKAGE])
    if request.state == "absent":
        return _absent(host, installed, check_mode)
    actions = []
    specifications = packages.missing(installed, {PACKAGE: request.version})
    if specifications:
        actions.append(f"install {' '.join(specifications)}")
        if not check_mode:
            packages.install(host.run, specifications, "state: 'present'")
    active, enabled = _state(host)
    if not enabled:
        actions.append("enable supervisor at boot")
    if not active:
        actions.append("start supervisor")
    elif specifications:
        actions.append("restart supervisor")
    version = None
    if not check_mode:
        _act(host, actions)
        version = _ready(host).version()
    elif active:
        version = _ready(host).version()
    return {
        "changed": bool(actions),
        "actions": actions,
        "version": version,
        "diff": {"prepared": "".join(f"{action}\n" for action in actions)},
    }


def _state(host):
    """Return (running, started at boot)."""
    if host.systemd:
        _rc, out, _err = host.run(
            ["systemctl", "show", PACKAGE, "--property=ActiveState", "--property=UnitFileState"]
        )
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return values.get("ActiveState") in ("active", "reloading"), values.get(
            "UnitFileState"
        ) == "enabled"
    try:
        _supervisord(host).wait_ready(0)
    except SupervisordUnavailable:
        # Whether it starts at boot is up to whatever starts this host: there is no init to ask.
        return False, True
    return True, True


def _act(host, actions):
    for action in actions:
        verb = action.split()[0]
        if verb == "enable":
            _run(host, ["systemctl", "enable", "--quiet", PACKAGE])
        elif verb in ("start", "restart"):
            _run(host, ["systemctl", verb, PACKAGE] if host.systemd else ["service", PACKAGE, verb])


def _run(host, argv):
    rc, out, err = host.run(argv)
    if rc != 0:
        raise GearvisorError(
            f"state: 'present' needs '{' '.join(argv)}', which failed: {(err or out).strip()}. "
            "See 'journalctl -u supervisor' and /var/log/supervisor/supervisord.log on the host"
        )


def _supervisord(host):
    return Supervisord(*socket_settings(read_text(host.config) or "", os.path.dirname(host.config)))


def _ready(host):
    supervisord = _supervisord(host)
    supervisord.wait_ready(_READY_SECONDS)
    return supervisord


def _absent(host, installed, check_mode):
    if installed and not check_mode:
        packages.remove(host.run, [PACKAGE])
    actions = [f"remove {name}" for name in installed]
    return {
        "changed": bool(actions),
        "actions": actions,
        "version": None,
        "diff": {"prepared": "".join(f"{action}\n" for action in actions)},
    }
