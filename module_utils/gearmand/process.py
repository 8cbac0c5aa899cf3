# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One gearmand process, as /proc shows it."""

from __future__ import annotations

import os
import pathlib
import re

from .config import GEARMAND

_REPLACED = " (deleted)"


class Process:
    """The gearmand with this pid. A pid that is no gearmand (any more) is not running."""

    def __init__(self, pid, proc="/proc"):
        self.pid = pid
        self._directory = pathlib.Path(proc, str(pid))

    def running(self):
        return self._executable() in (GEARMAND, GEARMAND + _REPLACED)

    def replaced(self):
        """Tell whether its executable is no longer the one on disk: another version was installed."""
        return self._executable().endswith(_REPLACED)

    def argv(self):
        """Return its command line as a list."""
        return self._read("cmdline").split("\0")[:-1]

    def identity(self):
        """Return what no other process has, before or after a reboot: pid and start."""
        # The second field, the name, is in parentheses; the 22nd is the start.
        fields = self._read("stat").rpartition(")")[2].split()
        return f"{self.pid} {fields[19]}" if len(fields) > 19 else None

    def file_limit(self):
        """Return how many files it may open, or None when it is gone."""
        match = re.search(r"^Max open files\s+(\d+)", self._read("limits"), re.MULTILINE)
        return int(match.group(1)) if match else None

    def hard_file_limit(self):
        """Return up to how many it may raise that itself."""
        match = re.search(r"^Max open files\s+\S+\s+(\d+)", self._read("limits"), re.MULTILINE)
        return int(match.group(1)) if match else None

    def _executable(self):
        try:
            return os.readlink(self._directory / "exe")
        except OSError:
            return ""

    def _read(self, name):
        try:
            return (self._directory / name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""


def from_pid_file(path, proc="/proc"):
    """Return the running gearmand whose pid the file holds, or None."""
    try:
        process = Process(int(pathlib.Path(path).read_text(encoding="ascii")), proc)
    except (OSError, ValueError):
        return None
    return process if process.running() else None
