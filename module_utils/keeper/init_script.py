# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that Debian's init script starts on a host without systemd.

Debian's scripts lose track of what they started (a second start overwrites the pid file, and a stop
that fails removes it), so the processes are found by their command line.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal

from ..failure import GearvisorError
from ..host.process import running

_STOP_SECONDS = 60


class InitScript:
    """/etc/init.d/NAME, which starts *executable* with *pid_file*. It has a rival's verbs."""

    def __init__(self, name, executable, pid_file, run):
        self._name = name
        self._executable = executable
        self._pid_file = pid_file
        self._run = run

    def process(self):
        """Return the Process that runs now, or None."""
        return next(iter(self._processes()), None)

    def enabled(self):
        """Return whether it starts at boot."""
        return bool(glob.glob(f"/etc/rc[2345].d/S??{self._name}"))

    def disable(self):
        """Make it not start at boot; touches no process."""
        self._run(["update-rc.d", self._name, "disable"])

    def remove(self):
        """Stop what runs. Raises GearvisorError when it does not end."""
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            if not process.wait_gone(_STOP_SECONDS):
                raise GearvisorError(
                    f"{self._name} (pid {process.pid}), started by Debian's init script, does not stop within "
                    f"{_STOP_SECONDS} s of SIGTERM. It was not killed; see what it does, end it, then run this "
                    "again"
                )
        # logrotate would send SIGHUP to the next process with that pid.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_file)

    def _processes(self):
        return running(self._executable, f"--pid-file={self._pid_file}")
