# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that a Debian package brings, as its package keeps it. The verbs are described in service.py."""

from __future__ import annotations

from ..failure import GearvisorError


class VerbFailed(GearvisorError):
    """*reason*: what the command said; its users add what it was for."""

    def __init__(self, command, reason):
        super().__init__(f"'{command}' failed: {reason}")
        self.reason = reason


class Packaged:
    """NAME, such as mariadb or php8.2-fpm: its unit where systemd runs, its init script elsewhere.

    All verbs raise VerbFailed.
    """

    def __init__(self, name, host):
        self._name = name
        self._host = host

    def prepare(self):
        if self._host.systemd:
            self._do(["systemctl", "enable", "--quiet", self._name])

    def start(self):
        self._service("start")

    def restart(self):
        self._service("restart")

    def reload(self):
        self._service("reload")

    def _service(self, verb):
        # service(8) asks systemd where it runs, and the package's init script elsewhere.
        self._do(["service", self._name, verb])

    def _do(self, command):
        rc, out, err = self._host.run(command)
        if rc != 0:
            raise VerbFailed(" ".join(command), (err or out).strip() or "it printed nothing")
