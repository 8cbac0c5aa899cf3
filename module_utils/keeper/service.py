# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept running, and by which service manager.

Those that only bring a part of the verbs: packaged.Packaged, a service as its package keeps it, and
loaded.LoadedUnit and LoadedScript, for what is loaded at boot and leaves no process.

Both managers, unit.Unit (systemd) and program.Program (Supervisor), have the same verbs, so that
their users need not know which one it is:

    files()             {path: text} of the files that define it and that the caller has to write
    process()           the Process that runs now, or None
    enabled()           whether it starts at boot
    preview(wanted)     Preview of what prepare() and start(), or remove(), would do
    prepare()           take in changed files, and make it start at boot; touches no process
    start()             prepare(), and start it; one that runs as defined is left alone
    restart()           prepare(), end what runs, and start it
    reload(process)     let the Process, if it still runs, read its configuration again: SIGHUP, or
                        by the unit's ExecReload
    stop()              stop it until it is started again, or the host is
    remove()            stop it and make it not start at boot; remove files() and reread() after it
    reread()            take in changed or removed files; touches no process
    crashed()           whether it ended by itself with an error since it was started
    last_lines()        the end of its log
    hard_file_limit()   how many files it can allow itself; None when its definition sets the limit
"""

from __future__ import annotations

from typing import NamedTuple


class Service(NamedTuple):
    """What is to be kept running.

    name: of the Supervisor program; the systemd unit is NAME.service. executable: the absolute
    path that its main process runs. fleet: of the Supervisor program, which is alone in it.
    unit_files: {path: text}. program: as supervisor_programs takes it. rival: what would start the
    same program beside Supervisor, with the methods process, enabled, disable and remove (a Unit or
    an InitScript); it gives way.
    """

    name: str
    executable: str
    fleet: str
    unit_files: dict
    program: dict
    rival: object = None


class Preview(NamedTuple):
    """What has to be done about a service besides writing its files and starting or ending it.

    lines: sentences. redefines: whether a process that runs is replaced by it. diffs: Ansible's
    diff entries of files that are not in files(), each of one path.
    """

    lines: tuple = ()
    redefines: bool = False
    diffs: tuple = ()

    @property
    def paths(self):
        """The paths of the files that are not in files()."""
        return tuple(diff["after_header"] for diff in self.diffs)
