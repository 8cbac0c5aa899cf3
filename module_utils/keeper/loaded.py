# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is loaded at boot and leaves no process, such as a ruleset. The verbs are described in service.py."""

from __future__ import annotations

import os

from ..failure import GearvisorError
from ..host import systemd

_UNITS = "/etc/systemd/system"


class LoadedUnit:
    """A oneshot unit that others require, so that they do not run without what it loads.

    *files*: {path: (text, mode)}. *required_by*: the names of those units, out of *candidates*.
    """

    def __init__(self, name, host, files, required_by, candidates):
        self.name = f"{name}.service"
        self._host = host
        self._files = files
        self._required_by = frozenset(required_by)
        self._candidates = candidates
        self._unit = systemd.Unit(self.name, host.run)

    def files(self):
        return dict(self._files)

    def enabled(self):
        """Return whether it is loaded at boot, and before what requires it."""
        return self._is_required() and self._unit.show("ActiveState") == {"ActiveState": "active"}

    def prepare(self):
        self._unit.reread()
        if not self._is_required():
            # Not only enable: there may be links of other units, or of an earlier version.
            self._unit.do("reenable", "--quiet")

    def start(self):
        """So that systemd takes it for started; what it loads may be loaded already."""
        self.prepare()
        self._unit.start()

    def remove(self):
        if self._unit.loaded():
            # First what requires it must no longer do so, or it would be stopped, too.
            self._unit.do("disable", "--quiet")
            self._unit.reread()
            self._unit.do("stop")

    def reread(self):
        self._unit.reread()

    def _is_required(self):
        found = {unit for unit in self._candidates if os.path.lexists(self._link(unit))}
        return self._unit.enabled() and found == self._required_by

    def _link(self, unit):
        return self._host.path(f"{_UNITS}/{unit}.requires/{self.name}")


class LoadedScript:
    """An init script, on hosts without systemd."""

    def __init__(self, name, host, files):
        self._name = name
        self._host = host
        self._files = files

    def files(self):
        return dict(self._files)

    def enabled(self):
        names = os.listdir(self._host.path("/etc/rc2.d"))
        return any(name.startswith("S") and name.endswith(self._name) for name in names)

    def prepare(self):
        self._update_rc("defaults")

    start = prepare

    def remove(self):
        """Nothing to end: it left no process."""

    def reread(self):
        """After its file is gone."""
        self._update_rc("remove")

    def _update_rc(self, verb):
        rc, out, err = self._host.run(["update-rc.d", self._name, verb])
        if rc != 0:
            raise GearvisorError(
                f"'update-rc.d {self._name} {verb}' failed: {(err or out).strip()}"
            )
