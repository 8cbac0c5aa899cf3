# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether systemd runs this host, and one of its units."""

from __future__ import annotations

import os

from ..failure import GearvisorError

RUNS = "/run/systemd/system"


def runs():
    """Return whether systemd is the host's service manager (sd_booted(3))."""
    return os.path.isdir(RUNS)


class Unit:
    """A unit, by systemctl and journalctl. *run* is like AnsibleModule.run_command."""

    def __init__(self, name, run):
        self.name = name
        self._run = run

    def show(self, *properties):
        """Return {property: value}, see systemd(1) and systemctl(1); empty where systemctl fails."""
        _rc, out, _err = self._run(
            ["systemctl", "show", f"--property={','.join(properties)}", self.name]
        )
        return dict(line.partition("=")[::2] for line in out.splitlines())

    def pid(self):
        """Return the pid of the main process that runs now, or 0."""
        return int(self.show("MainPID").get("MainPID") or 0)

    def enabled(self):
        """Return whether it starts at boot."""
        return self.show("UnitFileState").get("UnitFileState") == "enabled"

    def loaded(self):
        """Return whether systemd has it, running or not."""
        return self.show("LoadState").get("LoadState") == "loaded"

    def enable(self):
        """See that it starts at boot."""
        self.do("enable", "--quiet")

    def start(self):
        """Start it, even after so many failures that systemd would refuse; leave one that runs."""
        self._forget_failures()
        self.do("start")

    def restart(self):
        """Stop what runs, and start it as start() does."""
        self._forget_failures()
        self.do("restart")

    def remove(self):
        """Stop it and see that it does not come back; its file may go then."""
        if self.loaded():
            self.do("disable", "--quiet", "--now")

    def do(self, verb, *options):
        """Run `systemctl VERB OPTION... UNIT`. Raises GearvisorError with its log if that fails."""
        self._systemctl(verb, *options, self.name)

    def reread(self):
        """Have systemd read changed files of units; touches no process."""
        self._systemctl("daemon-reload")

    def last_lines(self, number=15):
        """Return the end of its log."""
        _rc, out, _err = self._run(
            [
                "journalctl",
                "--unit",
                self.name,
                "--lines",
                str(number),
                "--no-pager",
                "--output=cat",
            ]
        )
        return out.strip()

    def _forget_failures(self):
        self._run(["systemctl", "reset-failed", self.name])

    def _systemctl(self, *arguments):
        rc, _out, err = self._run(["systemctl", *arguments])
        if rc != 0:
            raise GearvisorError(
                f"'systemctl {' '.join(arguments)}' failed: {err.strip().rstrip('.')}. "
                f"See 'systemctl status {self.name}' and 'journalctl -u {self.name}' on the host",
                log=self.last_lines(),
            )
