# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who keeps gearmand running: systemd, or Supervisor where there is no systemd.

Both classes have the same methods, so that server.py need not know which it is.
"""

from __future__ import annotations

import contextlib
import glob
import os
import resource
import signal
import time
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import systemd
from ..supervisor import fleet
from ..supervisor.rpc import (
    BACKOFF,
    FATAL,
)
from . import config
from .process import Process, gearmands_with

NAME = "gearman-job-server"
UNIT = f"{NAME}.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/gearvisor.conf"
FLEET = "gearman_job_server"
_STOP_SECONDS = 60


def choose(wanted, run, check_mode):
    """Return the service for the option service_manager. Raises GearvisorError if it is not there."""
    systemd_runs = systemd.runs()
    if wanted == "systemd" or (wanted == "auto" and systemd_runs):
        if not systemd_runs:
            raise InvalidOption(
                "service_manager", wanted, "does not run on this host", "Use auto or supervisor"
            )
        return Systemd(run)
    return Supervised(run, check_mode, systemd_runs)


class Preview(NamedTuple):
    """What has to be done about the service besides its files and a start or restart.

    redefines: whether it makes what runs outdated. diffs: of files that are not in files().
    """

    lines: tuple = ()
    redefines: bool = False
    diffs: tuple = ()


class Systemd:
    """Debian's unit gearman-job-server.service with a drop-in of ours."""

    name = "systemd"
    command = config.systemd_command()

    def __init__(self, run):
        self._run = run
        self._unit = systemd.Unit(UNIT, run)

    def files(self, settings):
        """Return {path: text} of the files that define the service."""
        return {
            DROP_IN: config.drop_in_text(settings),
            config.MAX_QUEUE_SCRIPT: config.max_queue_script(),
        }

    def file_descriptors(self, _settings):
        """Return what gearmand.conf has to say; the drop-in says it already."""
        return None

    def process(self):
        """Return the Process that runs now, or None."""
        process = Process(self._unit.pid())
        return process if process.runs_gearmand() else None

    def enabled(self):
        """Tell whether it starts at boot."""
        return self._unit.enabled()

    def preview(self, wanted):
        """Return a Preview; *wanted* tells whether the service shall be there."""
        state = self._unit.show("UnitFileState").get("UnitFileState")
        if wanted and state == "masked":
            raise GearvisorError(
                f"{UNIT} is masked. Run 'systemctl unmask {UNIT}' if it shall run again"
            )
        return Preview((f"enable {UNIT}",) if wanted and state != "enabled" else ())

    def settle(self):
        """Do what preview's lines say; touches no process."""
        if not self.enabled():
            self._unit.enable()

    def reload(self):
        """Make the manager read changed files; touches no process."""
        self._unit.reread()

    def start(self):
        """Enable and start it; one that runs is left alone."""
        self.settle()
        self._unit.start()

    def restart(self):
        """Enable it, end what runs and start it."""
        self.settle()
        self._unit.restart()

    def stop(self, enabled):
        """Stop it; *enabled* tells whether it shall start at boot."""
        self._run(["systemctl", *(["stop"] if enabled else ["disable", "--now"]), UNIT])

    def halt(self):
        """Stop it until it is started again, or the host is."""
        self._unit.do("stop")

    def remove(self):
        """Stop it and see that it does not come back."""
        self._unit.remove()

    def crashed(self):
        """Tell whether it ended by itself with an error since it was started."""
        shown = self._unit.show("SubState", "Result")
        return shown.get("Result") not in ("success", None) and shown.get("SubState") != "running"

    def last_lines(self):
        """Return the end of its log."""
        return self._unit.last_lines()


class Supervised:
    """A Supervisor program, in place of Debian's init script (which cannot stop its server)."""

    name = "supervisor"
    command = config.supervisor_command()

    def __init__(self, run, check_mode, systemd_runs):
        self._run = run
        self._check_mode = check_mode
        self._systemd_runs = systemd_runs
        self._where = fleet.Host(run)
        self._supervisord = fleet.connect(self._where, check_mode)
        # Debian's own, which must not run beside ours.
        self._debian = Systemd(run) if systemd_runs else None

    def files(self, settings):
        """Return {path: text} of the files that the service needs; the fleet looks after its own."""
        if settings.memory_max is not None:
            raise InvalidOption(
                "memory_max",
                settings.memory_max,
                "needs systemd: Supervisor limits no memory",
                "Leave it out on this host",
            )
        return {config.MAX_QUEUE_SCRIPT: config.max_queue_script()}

    def file_descriptors(self, settings):
        """Return how many files gearmand shall allow itself: supervisord's limit bounds it."""
        if self._supervisord is None:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        else:
            hard = Process(self._supervisord.pid()).hard_file_limit() or config.FILE_DESCRIPTORS
        wanted = settings.file_descriptors
        if wanted is None:
            return min(config.FILE_DESCRIPTORS, hard)
        if wanted > hard:
            raise InvalidOption(
                "file_descriptors",
                wanted,
                f"is above {hard}, the hard limit of supervisord",
                f"Use {hard} or less, or start supervisord with a higher limit",
            )
        return wanted

    def process(self):
        """Return the Process that runs now, Debian's own included, or None."""
        for info in self._programs():
            process = Process(info.pid)
            if process.runs_gearmand():
                return process
        if self._debian is not None:
            return self._debian.process()
        return next(iter(_from_init_script()), None)

    def enabled(self):
        """Tell whether it starts at boot: whether there is the program."""
        return bool(self._programs())

    def preview(self, wanted):
        """See Systemd.preview."""
        if wanted and not self._check_mode:
            fleet.check_installed(self._where)
        if not wanted and self._supervisord is None:
            return Preview()
        result = fleet.converge(self._request(wanted), self._where, check_mode=True)
        diffs = tuple(diff for diff in result["diff"] if "prepared" not in diff)
        if not wanted:
            return Preview(tuple(f"remove {path}" for path in result["files"]), False, diffs)
        lines = (f"disable Debian's own service {NAME}",) if self._debian_enabled() else ()
        return Preview(lines, bool(result["plan"]["changed"]), diffs)

    def settle(self):
        """See Systemd.settle."""
        if self._debian_enabled():
            self._run(["update-rc.d", NAME, "disable"])

    def reload(self):
        """Do nothing: the fleet makes supervisord read what it writes."""

    def start(self):
        """Start it; one that runs with this definition is left alone."""
        self._take_over()
        self._end_retries()
        fleet.converge(self._request(), self._where)

    def restart(self):
        """End what runs and start it."""
        self._take_over()
        self._end_retries()
        fleet.converge(self._request()._replace(restart=True), self._where)

    def stop(self, enabled):
        """Stop it; *enabled* tells whether the program was there before, and stays."""
        if not enabled:
            self.remove()

    def halt(self):
        """See Systemd.halt."""
        self._supervisord.stop_group(NAME)
        self._stop_debians()

    def remove(self):
        """Stop it and see that it does not come back."""
        if self._supervisord is not None:
            fleet.absent(FLEET, self._where)
        self._stop_debians()

    def crashed(self):
        """Tell whether it ended by itself with an error since it was started."""
        return any(info.state in (BACKOFF, FATAL) for info in self._programs())

    def last_lines(self):
        """Return the end of its log."""
        return "" if self._supervisord is None else self._supervisord.last_lines(NAME)

    def _programs(self):
        return [] if self._supervisord is None else self._supervisord.processes(NAME)

    def _request(self, wanted=True):
        # Readiness is the admin port's answer, not Supervisor's RUNNING, so there is no wait here.
        programs = {NAME: config.supervisor_program()} if wanted else {}
        return fleet.Request(programs=programs, fleet=FLEET, purge=True, wait=False)

    def _take_over(self):
        """See that Debian's own service does not run, now or after a boot."""
        self.settle()
        self._stop_debians()

    def _end_retries(self):
        """Let a program that does not come up rest, so that the next start is made at once."""
        deadline = time.monotonic() + _STOP_SECONDS
        while self.crashed() and time.monotonic() < deadline:
            if any(info.state == FATAL for info in self._programs()):
                return
            self._supervisord.stop_group(NAME)
            time.sleep(0.1)

    def _debian_enabled(self):
        if self._debian is not None:
            return self._debian.enabled()
        return bool(glob.glob(f"/etc/rc[2345].d/S??{NAME}"))

    def _stop_debians(self):
        if self._debian is not None:
            self._debian.remove()
            return
        for process in _from_init_script():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            if not wait_gone(process, _STOP_SECONDS):
                raise GearvisorError(
                    f"Debian's own gearmand (pid {process.pid}) does not stop within {_STOP_SECONDS} s of "
                    "SIGTERM. It was not killed; see what it does, end it, then run this again"
                )
        # logrotate would send HUP to whoever gets that pid next.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(config.PID_FILE)


def _from_init_script():
    """Return the [Process] that Debian's init script started.

    Its pid file is no help: a second start overwrites it, and a stop that fails removes it.
    """
    return gearmands_with(f"--pid-file={config.PID_FILE}")


def wait_gone(process, seconds):
    """Wait until the process is gone; False when it is still there after so many seconds."""
    identity = process.identity()
    deadline = time.monotonic() + seconds
    while process.runs_gearmand() and process.identity() == identity:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
