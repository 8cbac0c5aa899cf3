# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the programs of a fleet need on this host: users, executables, directories."""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shlex
import shutil
import subprocess

from ..failure import GearvisorError, InvalidOption
from .config_file import environment_values


def user_id(user):
    """Return the (uid, gid) of a user name or number; KeyError when there is none."""
    entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def missing_users(users):
    """Return those of *users* that this host does not have."""
    return [user for user in users if not _has_user(user)]


def _has_user(user):
    try:
        user_id(user)
    except KeyError:
        return False
    return True


def make_users(run, users):
    """Create system users without a home or a shell. Raises GearvisorError."""
    for user in users:
        command = ["useradd", "--system", "--user-group", "--no-create-home"]
        command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", user]
        rc, out, err = run(command)
        if rc != 0:
            raise GearvisorError(
                f"create_users: {user!r} cannot be created: {(err or out).strip()}. "
                "Create it first, or name another"
            )


def remove_users(run, made):
    """Take back what make_users made."""
    for user in made:
        # Its last process may be on its way out still.
        run(["userdel", "--force", user])


def problems(section, path, new_users=()):
    """Yield InvalidOption for each thing the section needs and this host does not have.

    *path* is supervisord's PATH, where it looks up a command without a slash
    unless the program has a PATH of its own. *new_users* are about to be made.
    """
    user = section.options.get("user")
    if user is not None and not _has_user(user):
        if user not in new_users:
            yield InvalidOption(
                f"{section.parameter}.user",
                user,
                "is no user of this host",
                "Create it first, for instance with ansible.builtin.user, or name another",
            )
        user = None
    own = environment_values(section.options.get("environment", ""))
    yield from _command_problems(section, user, own.get("PATH", path))
    directory = section.options.get("directory")
    if (
        directory
        and "%" not in directory
        and os.path.lexists(directory)
        and not os.path.isdir(directory)
    ):
        yield InvalidOption(
            f"{section.parameter}.directory", directory, "is no directory", "Name another"
        )


def _command_problems(section, user, path):
    option = f"{section.parameter}.command"
    command = section.options["command"]
    try:
        words = shlex.split(command.replace("%%", "%"))
    except ValueError:
        yield InvalidOption(
            option,
            command,
            "holds an unbalanced quote",
            "Close it; Supervisor splits like a shell does",
        )
        return
    executable = words[0]
    if "%(" in executable:
        return
    found = executable if "/" in executable else shutil.which(executable, path=path)
    if not found or not os.path.isfile(found):
        yield InvalidOption(
            option,
            command,
            f"begins with {executable}, which is not on this host",
            "Install it first, or correct the path",
        )
    elif not _executable_by(found, user):
        yield InvalidOption(
            option,
            command,
            f"begins with {found}, which {user or 'root'} may not execute",
            "Set its mode and those of the directories above it, or choose another user",
        )


@functools.cache
def _executable_by(path, user):
    if user is None:
        return os.access(path, os.X_OK)
    uid, gid = user_id(user)
    if os.geteuid() != 0 or uid == 0:
        return os.access(path, os.X_OK)
    groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    answer = subprocess.run(
        ["/usr/bin/test", "-x", path],
        user=uid,
        group=gid,
        extra_groups=groups,
        check=False,
        cwd="/",
    )
    return answer.returncode == 0


def missing_directories(sections):
    """Return {directory: user or None} that the sections name and that do not exist.

    A working directory belongs to the program's user. A log directory stays
    root's: supervisord opens logs as root, and follows links.
    """
    wanted = {}
    for section in sections:
        for channel in ("stdout", "stderr"):
            log = section.options.get(f"{channel}_logfile", "")
            if log.startswith("/"):
                wanted.setdefault(os.path.dirname(log), None)
        directory = section.options.get("directory")
        if directory:
            wanted[directory] = section.options.get("user")
    return {
        directory: user
        for directory, user in sorted(wanted.items())
        if "%" not in directory and not os.path.lexists(directory)
    }


def make_directories(directories):
    """Make {directory: user or None} and what is missing above; return those made, in order.

    Directories above the named ones belong to root.
    """
    made = []
    try:
        for directory, user in directories.items():
            above = []
            parent = os.path.dirname(directory.rstrip("/"))
            while not os.path.lexists(parent):
                above.append(parent)
                parent = os.path.dirname(parent)
            for new in [*reversed(above), directory]:
                if not os.path.lexists(new):
                    os.mkdir(new)
                    made.append(new)
                    os.chmod(new, 0o755)
            if user is not None:
                os.chown(directory, *user_id(user))
    except OSError as error:
        remove_directories(made)
        raise GearvisorError(
            f"The directory {directory} cannot be made: {error}. Make it first, or name another"
        ) from None
    return made


def remove_directories(made):
    """Take back what make_directories made, as far as it is still empty."""
    for directory in reversed(made):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
