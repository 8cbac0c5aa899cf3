# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service kept by systemd. The verbs are described in service.py."""

from __future__ import annotations

from ..failure import GearvisorError
from ..host import systemd
from ..host.process import Process
from .service import Preview


class Unit:
    """The unit NAME.service, Debian's with a drop-in or one of Gearvisor's."""

    manager = "systemd"

    def __init__(self, service, run):
        self._service = service
        self._name = f"{service.name}.service"
        self._unit = systemd.Unit(self._name, run)

    def files(self):
        return dict(self._service.unit_files)

    def process(self):
        process = Process(self._unit.pid())
        return process if process.runs(self._service.executable) else None

    def enabled(self):
        return self._unit.enabled()

    def preview(self, wanted):
        """Raises GearvisorError when it is wanted and masked."""
        state = self._unit.show("UnitFileState").get("UnitFileState")
        if wanted and state == "masked":
            raise GearvisorError(
                f"{self._name} is masked. Run 'systemctl unmask {self._name}' to let it run again"
            )
        return Preview((f"enable {self._name}",) if wanted and state != "enabled" else ())

    def prepare(self):
        self._unit.reread()
        if not self.enabled():
            self._unit.enable()

    def start(self):
        self.prepare()
        self._unit.start()

    def restart(self):
        self.prepare()
        self._unit.restart()

    def reload(self, process):
        if self._unit.pid() == process.pid:
            self._unit.do("reload")

    def stop(self):
        self._unit.do("stop")

    def disable(self):
        """Make it not start at boot; touches no process."""
        self._unit.do("disable", "--quiet")

    def remove(self):
        self._unit.remove()

    def reread(self):
        self._unit.reread()

    def crashed(self):
        shown = self._unit.show("SubState", "Result")
        return shown.get("Result") not in ("success", None) and shown.get("SubState") != "running"

    def last_lines(self):
        return self._unit.last_lines()

    def hard_file_limit(self):
        return None
