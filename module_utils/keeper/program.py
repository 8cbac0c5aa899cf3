# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service kept by Supervisor, on hosts without systemd. The verbs are described in service.py."""

from __future__ import annotations

import resource
import time

from ..host.process import Process
from ..supervisor import fleet
from ..supervisor.rpc import BACKOFF, FATAL
from .service import Preview

_STOP_SECONDS = 60
# For a supervisord that is being started. The role supervisor waits for longer.
_READY_SECONDS = 5


class Program:
    """One program, alone in its fleet, in whose file there is nothing else."""

    manager = "supervisor"

    def __init__(self, service, where, check_mode=False):
        """*where*: fleet.Host. Raises GearvisorError when supervisord does not answer."""
        self._service = service
        self._where = where
        self._check_mode = check_mode
        self._supervisord = fleet.connect(where, check_mode, _READY_SECONDS)

    def files(self):
        return {}

    def process(self):
        """The rival's included."""
        for info in self._processes():
            process = Process(info.pid)
            if process.runs(self._service.executable):
                return process
        rival = self._service.rival
        return rival.process() if rival else None

    def enabled(self):
        return bool(self._processes())

    def preview(self, wanted):
        """Raises GearvisorError when it is wanted and Supervisor is not installed."""
        if wanted and not self._check_mode:
            fleet.check_installed(self._where)
        if not wanted and self._supervisord is None:
            return Preview()
        found = fleet.preview(self._request(wanted), self._where)
        if not wanted:
            return Preview(tuple(f"remove {path}" for path in found.files), False, found.diffs)
        rival = self._service.rival
        lines = ()
        if rival and rival.enabled():
            lines = (f"disable Debian's own service {self._service.name}",)
        return Preview(lines, found.replaces, found.diffs)

    def prepare(self):
        """Supervisor reads a program's file when it starts it, so only the rival is disabled."""
        rival = self._service.rival
        if rival and rival.enabled():
            rival.disable()

    def start(self):
        self._take_over()
        self._end_retries()
        fleet.converge(self._request(), self._where)

    def restart(self):
        self._take_over()
        self._end_retries()
        fleet.converge(self._request()._replace(restart=True), self._where)

    def reload(self, process):
        for info in self._processes():
            if info.pid == process.pid:
                self._supervisord.signal_process(info.full_name, "HUP")

    def stop(self):
        if self._supervisord is not None:
            running = [Process(info.pid) for info in self._processes() if info.pid]
            self._supervisord.stop_group(self._service.name)
            # As systemctl does; supervisord kills what outlives its stopwaitsecs.
            for process in running:
                process.wait_gone(_STOP_SECONDS)
        if self._service.rival:
            self._service.rival.remove()

    def remove(self):
        if self._supervisord is not None:
            fleet.absent(self._service.fleet, self._where)
        if self._service.rival:
            self._service.rival.remove()

    def reread(self):
        """Nothing to do: the fleet makes supervisord read what it writes and removes."""

    def crashed(self):
        return any(info.state in (BACKOFF, FATAL) for info in self._processes())

    def last_lines(self):
        return "" if self._supervisord is None else self._supervisord.last_lines(self._service.name)

    def hard_file_limit(self):
        """That of supervisord, which its programs inherit; that of this process before it runs."""
        limit = None
        if self._supervisord is not None:
            limit = Process(self._supervisord.pid()).hard_file_limit()
        return limit or resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def _processes(self):
        return [] if self._supervisord is None else self._supervisord.processes(self._service.name)

    def _request(self, wanted=True):
        # Whether it serves is the caller's to see, so this does not wait for Supervisor's RUNNING.
        programs = {self._service.name: self._service.program} if wanted else {}
        return fleet.Request(programs=programs, fleet=self._service.fleet, purge=True, wait=False)

    def _take_over(self):
        self.prepare()
        if self._service.rival:
            self._service.rival.remove()

    def _end_retries(self):
        """Stop a program that Supervisor tries again and again, so that the next start is at once."""
        deadline = time.monotonic() + _STOP_SECONDS
        while self.crashed() and time.monotonic() < deadline:
            if any(info.state == FATAL for info in self._processes()):
                return
            self._supervisord.stop_group(self._service.name)
            time.sleep(0.1)
