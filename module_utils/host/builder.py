# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user without an account that runs what root must not: compilers, pip, code from elsewhere.

docs/decisions/0035 explains the purpose. The user owns nothing on the host but the directories that it is
given, and none of its processes outlives the block.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import random
import stat

from ..failure import GearvisorError

# systemd's UIDS-GIDS.md lists them as unused: no account has them, and no DynamicUser= gets them.
_UIDS = range(60578, 61184)
_MOST_SECONDS = 900
_MOST_DEPTH = 64
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Builder:
    """The unprivileged user, for a block. *run* is like Host.run, *proc* like /proc.

    Without root, as in a developer's tests, everything runs as the caller.
    """

    def __init__(self, run, proc="/proc"):
        self._run = run
        self._proc = proc
        self._taken = set()
        self.uid = os.geteuid()

    def __enter__(self):
        if os.geteuid() == 0:
            self.uid = _free_uid(self._proc)
        return self

    def __exit__(self, *_):
        self.end_processes()

    def run(self, argv, cwd="/", environment=None, namespaces=(), seconds=_MOST_SECONDS):
        """Run a command as the user; return (return code, stdout, stderr).

        Of the module's environment it gets nothing. *environment* ({name: value}) may hold
        secrets: it is in no argument. *namespaces*: a command of root's that goes in front.
        """
        argv = [*namespaces, *self.command(argv, environment, seconds)]
        given = {**_plain_environment(), **(environment or {})}
        return self._run(argv, cwd=cwd, environ_update=given, ends_with_run=True)

    def command(self, argv, environment=None, seconds=_MOST_SECONDS):
        """Return the arguments that run the command as the user, for a limited time."""
        keep = {*_plain_environment(), *(environment or {})}
        unset = [f"--unset={name}" for name in sorted(os.environ) if name not in keep]
        limit = ["timeout", "--kill-after=10", str(seconds)]
        return [*self._drop_root(), "env", *unset, *limit, *argv]

    def give(self, *paths):
        """Give directories and files that root has just made to the user."""
        for path in paths:
            os.chown(path, self.uid, self.uid if self._is_other() else -1, follow_symlinks=False)

    def end_processes(self):
        """End all processes of the user, those that left their session and group included."""
        if self._is_other():
            # To -1 a signal goes to all processes of the user at once: none can fork away from it.
            self._run([*self._drop_root(), "sh", "-c", "kill -KILL -1"])

    def seal(self, directory):
        """Make the directory and all that is in it root's, readable by all and writable by no other.

        Ends the user's processes first, which could go on writing. Raises GearvisorError for what is
        not the user's, or neither a file, a directory nor a link: then nothing in it may be used.
        """
        self.end_processes()
        self._taken = set()
        descriptor = os.open(directory, _DIRECTORY)
        try:
            self._seal(descriptor, directory, 0)
        finally:
            os.close(descriptor)

    def _seal(self, descriptor, path, depth):
        self._take(descriptor, path, 0o755)
        if depth > _MOST_DEPTH:
            raise GearvisorError(f"{path} is nested too deeply to be checked")
        for name in os.listdir(descriptor):
            below = os.path.join(path, name)
            found = os.lstat(name, dir_fd=descriptor)
            if stat.S_ISLNK(found.st_mode):
                self._check_owner(found, below)
                os.chown(name, *self._root(), dir_fd=descriptor, follow_symlinks=False)
                continue
            if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
                raise GearvisorError(f"{below} is neither a file, a directory nor a link")
            is_directory = stat.S_ISDIR(found.st_mode)
            child = os.open(name, _DIRECTORY if is_directory else _FILE, dir_fd=descriptor)
            try:
                if is_directory:
                    self._seal(child, below, depth + 1)
                else:
                    self._take(child, below, 0o755 if found.st_mode & 0o100 else 0o644)
            finally:
                os.close(child)

    def _take(self, descriptor, path, mode):
        found = os.fstat(descriptor)
        self._check_owner(found, path)
        self._taken.add((found.st_dev, found.st_ino))
        os.fchown(descriptor, *self._root())
        os.fchmod(descriptor, mode)

    def _check_owner(self, found, path):
        ours = found.st_uid in (self.uid, os.geteuid())
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1 and found.st_uid != self.uid:
            # A hard link to a file of root's from elsewhere would hand that file out.
            ours = (found.st_dev, found.st_ino) in self._taken
        if not ours:
            raise GearvisorError(
                f"{path} belongs to user {found.st_uid}, which is not expected there"
            )

    def _root(self):
        return (0, 0) if self._is_other() else (-1, -1)

    def _is_other(self):
        return self.uid in _UIDS and os.geteuid() == 0

    def _drop_root(self):
        if not self._is_other():
            return []
        user = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return ["setpriv", *user, "--no-new-privs", "--"]


def _plain_environment():
    return {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


def _free_uid(proc):
    """Return a user id that neither an account nor a process has."""
    running = set()
    for path in pathlib.Path(proc).iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError):
                running.add(path.stat().st_uid)
    # Not always the same one: containers share the kernel's user ids, and have their own locks.
    start = random.randrange(len(_UIDS))
    for uid in (*_UIDS[start:], *_UIDS[:start]):
        if uid in running:
            continue
        try:
            pwd.getpwuid(uid)
        except KeyError:
            return uid
    raise GearvisorError(f"All user ids from {_UIDS[0]} to {_UIDS[-1]} are in use on this host")
