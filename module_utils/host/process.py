# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process of this host, as /proc shows it (proc(5))."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import time

from .processes import eyes_of_owner, started

_REPLACED = " (deleted)"


class Process:
    """The process with this pid, which may be gone by now."""

    def __init__(self, pid, proc="/proc"):
        self.pid = pid
        self._directory = pathlib.Path(proc, str(pid))

    def runs(self, executable):
        """Return whether it exists and runs this program, given by the absolute path of its command.

        A program that changed its own user hides its executable in a container without ptrace.
        Its command line can always be read.
        """
        path = os.path.realpath(executable)
        return self._executable() in (path, path + _REPLACED, "") and self.argv()[:1] == [
            executable
        ]

    def replaced(self):
        """Return whether its executable differs from the one on disk: another version was installed."""
        return self._executable().endswith(_REPLACED)

    def name(self):
        """Return its name as ps shows it."""
        return self._read("comm").strip()

    def socket_inodes(self):
        """Return the inodes of the sockets that it holds, as text."""
        result = set()
        with contextlib.suppress(OSError), eyes_of_owner(self._directory):
            for path in (self._directory / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(path)
                    if target.startswith("socket:["):
                        result.add(target[len("socket:[") : -1])
        return result

    def argv(self):
        """Return its command line as a list."""
        return self._read("cmdline").split("\0")[:-1]

    def in_container(self):
        """Return whether it belongs to a container of this host, not to the host."""
        match = re.search(r"^NSpid:(.*)$", self._read("status"), re.MULTILINE)
        return match is not None and len(match.group(1).split()) > 1

    def identity(self):
        """Return what no other process has, before or after a reboot: pid and start."""
        start = started(self.pid, self._directory.parent)
        return None if start is None else f"{self.pid} {start}"

    def wait_gone(self, seconds):
        """Wait until it has ended; return False when it still runs after so many seconds."""
        identity = self.identity()
        deadline = time.monotonic() + seconds
        while identity is not None and self.identity() == identity:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def file_limit(self):
        """Return how many files it may open, or None when it is gone."""
        match = re.search(r"^Max open files\s+(\d+)", self._read("limits"), re.MULTILINE)
        return int(match.group(1)) if match else None

    def hard_file_limit(self):
        """Return up to how many it may raise that itself."""
        match = re.search(r"^Max open files\s+\S+\s+(\d+)", self._read("limits"), re.MULTILINE)
        return int(match.group(1)) if match else None

    def _executable(self):
        with contextlib.suppress(OSError), eyes_of_owner(self._directory):
            return os.readlink(self._directory / "exe")
        return ""

    def _read(self, name):
        try:
            return (self._directory / name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""


def running(executable, argument=None, proc="/proc"):
    """Return the [Process] of this host that run the program, those of its containers excluded.

    *argument*: only those with this word on their command line.
    """
    pids = [int(path.name) for path in pathlib.Path(proc).iterdir() if path.name.isdigit()]
    found = [Process(pid, proc) for pid in sorted(pids)]
    return [
        process
        for process in found
        if process.runs(executable)
        and (argument is None or argument in process.argv())
        and not process.in_container()
    ]
