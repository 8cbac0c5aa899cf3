# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the programs of a fleet need on this host: users, executables, directories."""

from __future__ import annotations

import functools
import os
import pwd
import re
import shlex
import shutil
import subprocess

from ..failure import GearvisorError, InvalidOption
from ..host import directories, trust
from . import log_places
from .config_file import environment_values
from .log_places import Surroundings


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


def problems(section, path, new_users=(), surroundings=None):
    """Yield InvalidOption for each thing the section needs and this host does not have.

    *path* is supervisord's PATH, where it looks up a command without a slash
    unless the program has a PATH of its own. *new_users* are about to be made.
    *surroundings* are log_places.Surroundings.
    """
    surroundings = surroundings or Surroundings()
    user = section.options.get("user")
    if user is not None and not _has_user(user):
        if user not in new_users:
            yield InvalidOption(
                f"{section.parameter}.user",
                user,
                "does not exist on this host",
                "Create it first, for instance with ansible.builtin.user, or name another",
            )
        user = None
    own = environment_values(section.options.get("environment", ""))
    yield from _environment_problems(section, own, surroundings.environment)
    own_path = own.get("PATH", path).replace("%(ENV_PATH)s", path)
    yield from _command_problems(section, user, own_path)
    yield from _directory_problems(section, surroundings.trusted)
    yield from _socket_problems(section, surroundings.trusted)
    yield from log_places.problems(section, surroundings)


def _socket_problems(section, trusted):
    """supervisord makes a socket as root, and gives it to its owner by name."""
    path = section.options.get("socket", "").partition("unix://")[2]
    weak = trust.weakness(os.path.dirname(path), trusted) if path.startswith("/") else None
    if weak:
        yield InvalidOption(
            f"{section.parameter}.socket",
            section.options["socket"],
            "is a socket that root makes and gives away at a place that others control: "
            f"{weak.path} {weak.reason}, and could make root give away any file",
            f"Write unix:///run/{os.path.basename(path)}, and who may use it with socket_owner and socket_mode",
            directory=weak.path,
        )


def _environment_problems(section, own, environment):
    """Supervisor fills supervisord's variables in before it splits environment= at quotes and commas."""
    for name, value in own.items():
        for variable in re.findall(r"%\(ENV_(\w+)\)", value):
            if re.search(r"[\"'\\\n]", environment.get(variable, "")):
                yield InvalidOption(
                    f"{section.parameter}.environment_expanded.{name}",
                    "(not shown)",
                    f"uses %(ENV_{variable})s, whose value for supervisord holds a quote, a backslash or a line break",
                    "Write the value itself, in environment",
                )


# What a deploy tool makes as a link to a release.
_RELEASE_LINKS = {"current", "release", "live", "latest", "active", "stable"}


def _directory_problems(section, trusted):
    """A working directory that is missing is made only where that cannot be in the way of a deploy."""
    option, directory = f"{section.parameter}.directory", section.options.get("directory", "")
    if not directory or "%" in directory:
        return
    if os.path.isdir(directory):
        return
    if os.path.lexists(directory):
        if os.path.islink(directory) and not os.path.exists(directory):
            yield InvalidOption(
                option,
                directory,
                f"is a link to {os.readlink(directory)}, which does not exist",
                "Deploy first, or correct the link",
            )
        else:
            yield InvalidOption(option, directory, "is not a directory", "Use another path")
        return
    plain = directory.rstrip("/")
    parent, name = os.path.split(plain)
    if name in _RELEASE_LINKS or not os.path.isdir(parent):
        missing = "it" if os.path.isdir(parent) else parent
        yield InvalidOption(
            option,
            directory,
            "does not exist, and making it would be in the way of a deploy",
            f"Deploy first, or make {missing} in an earlier task",
        )
        return
    weak = trust.weakness(parent, trusted)
    if weak:
        yield InvalidOption(
            option,
            directory,
            f"does not exist, and root does not make it where {weak.path} {weak.reason}",
            "Deploy first, or make it as that user in an earlier task",
            directory=weak.path,
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


def missing_directories(sections, surroundings=None):
    """Return {directory: user or None} that the sections name, that do not exist and that will be made.

    A working directory belongs to the program's user, and is made only where
    problems() has nothing against it. A log directory stays root's: supervisord
    opens logs as root, and follows links.
    """
    surroundings = surroundings or Surroundings()
    wanted = {}
    for section in sections:
        for path in log_places.files(section, surroundings).values():
            wanted.setdefault(os.path.dirname(path), None)
        directory = section.options.get("directory")
        if directory and not any(_directory_problems(section, surroundings.trusted)):
            wanted[directory] = section.options.get("user")
    return {
        directory: user
        for directory, user in sorted(wanted.items())
        if "%" not in directory and not os.path.lexists(directory)
    }


def make_directories(owners, trusted_users=()):
    """Make {directory: user or None} and what is missing above; return those made, in order.

    Directories above the named ones belong to root. Nothing is made where
    others than root and *trusted_users* control the way to it.
    """
    trusted = trust.user_ids(trusted_users)
    made = []
    try:
        for directory, user in owners.items():
            uid, gid = (0, 0) if user is None else user_id(user)
            made += directories.make(directory, 0o755, uid, gid, trusted)
    except (OSError, GearvisorError) as error:
        remove_directories(made)
        raise GearvisorError(
            f"The directory {directory} cannot be made: {error}. Make it first, or name another"
        ) from None
    return made


def remove_directories(made):
    """Take back what make_directories made, as far as it is still empty."""
    directories.remove_empty(*reversed(made))
