# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process, as /proc shows it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re

from .config import GEARMAND

_REPLACED = " (deleted)"


class Process:
    """The process with this pid, which may be gone by now."""

    def __init__(self, pid, proc="/proc"):
        self.pid = pid
        self._directory = pathlib.Path(proc, str(pid))

    def runs_gearmand(self):
        """Tell whether it is there and is Debian's gearmand.

        One that changed its user by itself, as the init script has it do, shows its executable to
        nobody in a container without ptrace; its command line is always there to be read.
        """
        return self._executable() in (GEARMAND, GEARMAND + _REPLACED, "") and self.argv()[:1] == [
            GEARMAND
        ]

    def replaced(self):
        """Tell whether its executable is no longer the one on disk: another version was installed."""
        return self._executable().endswith(_REPLACED)

    def name(self):
        """Return its name as ps shows it."""
        return self._read("comm").strip()

    def socket_inodes(self):
        """Return the inodes of the sockets that it holds, as text."""
        result = set()
        with contextlib.suppress(OSError), self._its_own_eyes():
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
        """Tell whether it belongs to a container of this host, not to the host."""
        match = re.search(r"^NSpid:(.*)$", self._read("status"), re.MULTILINE)
        return match is not None and len(match.group(1).split()) > 1

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
        with contextlib.suppress(OSError), self._its_own_eyes():
            return os.readlink(self._directory / "exe")
        return ""

    @contextlib.contextmanager
    def _its_own_eyes(self):
        """Look as the user it runs as: in a container root may not see what other users' processes hold."""
        if os.geteuid() != 0:
            yield
            return
        owner = self._directory.stat()
        group = os.getegid()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)

    def _read(self, name):
        try:
            return (self._directory / name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""


def gearmands_with(argument, proc="/proc"):
    """Return the [Process] of all gearmands of this host that were started with the argument."""
    pids = [int(path.name) for path in pathlib.Path(proc).iterdir() if path.name.isdigit()]
    found = [Process(pid, proc) for pid in sorted(pids)]
    return [
        process
        for process in found
        if argument in process.argv() and process.runs_gearmand() and not process.in_container()
    ]
