# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The managed host, as a module sees it: commands, paths, processes."""

from __future__ import annotations

import dataclasses
import os
import pwd

from . import journal, processes

_AS_USER = ("setpriv", "--init-groups", "--no-new-privs")


@dataclasses.dataclass(frozen=True)
class Host:
    """What every part of a module needs of its host.

    *run_command* is AnsibleModule.run_command or a callable like it. *root* is the directory
    that stands for /, *proc* for /proc and *journal* the directory of the journal below it; tests give
    their own. *module* is the name of the module that runs, for the lock and the journal.
    """

    run_command: object
    check_mode: bool = False
    root: str = "/"
    proc: str = "/proc"
    module: str = "gearvisor"
    journal: str = dataclasses.field(default_factory=lambda: journal.DIRECTORY)

    def path(self, path):
        """Return where the absolute *path* really is: below *root*."""
        return path if self.root == "/" else os.path.join(self.root, path.lstrip("/"))

    @property
    def systemd(self):
        """Whether systemd is the host's service manager (sd_booted(3))."""
        return os.path.isdir(self.path("/run/systemd/system"))

    def run(self, argv, data=None, environ_update=None, cwd=None, user=None, ends_with_run=False):
        """Run a command; return (return code, stdout, stderr) as text.

        *user* is a user name: the command runs as that user, with its groups and HOME, and
        cannot gain privileges. *ends_with_run* marks the command and its children, so that
        the next run of any module ends those that a killed run left behind (for apt: waits
        for them), see processes.end_abandoned.
        """
        environment = dict(environ_update or {})
        if ends_with_run:
            environment.update(processes.mark())
        if user is not None:
            entry = pwd.getpwnam(user)
            argv = [*_AS_USER, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--", *argv]
            environment = {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user, **environment}
        options = {"data": data, "environ_update": environment or None, "cwd": cwd}
        given = {name: value for name, value in options.items() if value is not None}
        return self.run_command(list(argv), **given)
