# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps stunnel running: systemd, or Supervisor where there is no systemd.

Both classes have the same methods, so that tunnel.py need not know which it is. Neither ever
restarts a stunnel that runs: a reload takes every setting in and leaves connections alone.
"""

from __future__ import annotations

import os

from ..failure import InvalidOption
from ..host import systemd
from ..host.process import Process
from ..supervisor import fleet
from . import stunnel

NAME = "gearman-tunnel"
UNIT = f"{NAME}.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
FLEET = "gearman_tunnel"
# systemd leaves a note there of what the container is of.
_CONTAINER = "/run/systemd/container"


def choose(wanted, run, check_mode):
    """Return the service for the option service_manager. Raises GearvisorError if it is not there."""
    runs = systemd.runs()
    if wanted == "systemd" and not runs:
        raise InvalidOption(
            "service_manager", wanted, "does not run on this host", "Use auto or supervisor"
        )
    return Systemd(run) if runs and wanted != "supervisor" else Supervised(run, check_mode)


class Systemd:
    """A unit of our own; Debian's belong to Debian's way of configuring stunnel."""

    name = "systemd"

    def __init__(self, run):
        self._unit = systemd.Unit(UNIT, run)

    def files(self):
        """Return {path: text} of the files that define the service."""
        return {UNIT_FILE: stunnel.unit_text(os.path.exists(_CONTAINER))}

    def process(self):
        """Return the Process that runs now, or None."""
        pid = self._unit.pid()
        return Process(pid) if pid else None

    def preparations(self, _installed):
        """Return what prepare() will have to do besides reading the files again, as texts."""
        return [] if self._unit.enabled() else [f"enable {UNIT}"]

    def prepare(self):
        """Take the files in and see that it starts at boot; touches no process."""
        self._unit.reread()
        self._unit.enable()

    def start(self):
        """Start it after prepare()."""
        self._unit.start()

    def reload(self, _running):
        """Have the Process that runs take its configuration in; touches no connection."""
        self._unit.do("reload")

    def remove(self):
        """Stop it and see that it does not come back; its file goes later."""
        self._unit.remove()

    def forget(self):
        """Take in that the files are gone."""
        self._unit.reread()

    def last_lines(self):
        """Return the end of its log."""
        return self._unit.last_lines()


class Supervised:
    """A Supervisor program."""

    name = "supervisor"

    def __init__(self, run, check_mode):
        self._where = fleet.Host(run)
        self._supervisord = fleet.connect(self._where, check_mode)
        self._check_mode = check_mode

    def files(self):
        """Return no files: the fleet looks after its own."""
        return {}

    def process(self):
        """See Systemd.process."""
        pids = [info.pid for info in self._programs() if info.pid]
        return Process(pids[0]) if pids else None

    def preparations(self, installed):
        """See Systemd.preparations."""
        if not installed or self._supervisord is None:
            return [f"add the program {NAME} to Supervisor"]
        changes = fleet.converge(self._request(), self._where, check_mode=True)
        return [f"add the program {NAME} to Supervisor"] if changes["changed"] else []

    def prepare(self):
        """See that the program is there, and as it shall be, which also starts it."""
        fleet.converge(self._request(), self._where)

    def start(self):
        """Do nothing: prepare() has started it."""

    def reload(self, running):
        """See Systemd.reload."""
        for info in self._programs():
            # One that was started meanwhile has read it already.
            if info.pid == running.pid:
                self._supervisord.signal_process(info.full_name, "HUP")

    def remove(self):
        """See Systemd.remove."""
        if self._supervisord is not None:
            fleet.absent(FLEET, self._where)

    def forget(self):
        """Do nothing: remove() was all."""

    def last_lines(self):
        """See Systemd.last_lines."""
        return "" if self._supervisord is None else self._supervisord.last_lines(NAME)

    def _programs(self):
        return [] if self._supervisord is None else self._supervisord.processes(NAME)

    def _request(self):
        # Readiness is that it listens, which tunnel.py waits for.
        programs = {NAME: stunnel.supervisor_program()}
        return fleet.Request(programs=programs, fleet=FLEET, purge=True, wait=False)
