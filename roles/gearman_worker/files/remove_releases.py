# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes old releases, as root, whose directory usually is another user's. playbooks/deploy.yml runs this.

    remove_releases.py DIRECTORY NAME...

A user who controls a part of the path to DIRECTORY decides what it leads to. So nothing is removed unless
all of the way belongs to root or to the owner of what it leads to.
"""

import grp
import os
import pwd
import shutil
import stat
import sys


def problem(path, owner):
    """Return why others than root and *owner* (a user id) decide where the absolute path leads, or None."""
    at = "/"
    for part in [part for part in path.split("/") if part not in ("", ".")]:
        above, at = at, os.path.join(at, part)
        found = os.lstat(at)
        if found.st_uid not in (0, owner):
            return f"{at} belongs to user {found.st_uid}"
        if stat.S_ISLNK(found.st_mode):
            below = problem(os.path.join(above, os.readlink(at)), owner)
            if below:
                return below
            at = os.path.realpath(at)
        elif found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return f"{at} can be written by all users"
        elif found.st_mode & stat.S_IWGRP and members(found.st_gid) - {0, owner}:
            return f"{at} can be written by the group {found.st_gid}"
    return None


def members(group):
    """Return the user ids in the group."""
    found = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group}
    for name in next((each.gr_mem for each in grp.getgrall() if each.gr_gid == group), ()):
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return found


def main(directory, *names):
    if not os.path.isabs(directory) or any(
        "/" in name or name in ("", ".", "..") for name in names
    ):
        raise SystemExit("an absolute path and names in it are needed")
    # Held open: what its name leads to from here on does not matter.
    os.chdir(directory)
    reason = problem(directory, os.stat(".").st_uid)
    if reason:
        raise SystemExit(
            f"Old releases in {directory} are not removed: {reason}, who could have root remove any directory. "
            "Give it to the owner of the releases, or set gearman_worker_deploy_keep to 0 and remove them as "
            "their owner"
        )
    for name in names:
        if not os.path.islink(name):
            shutil.rmtree(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
