# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether other users could replace what root is about to write, execute or read as its own.

The owner of a directory, and those that may write to it, decide what its names lead to. So a
path is root's only if that holds for each directory on the way, links followed.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import struct
from typing import NamedTuple

from ..failure import InvalidOption

_LINKS = 40
# acl(5): tags of the entries that give rights to single users and groups.
_ACL_USER, _ACL_GROUP, _ACL_MASK = 2, 8, 16


class Weakness(NamedTuple):
    """*path* on the way, and *reason*: how others could change it, as in "belongs to deploy"."""

    path: str
    reason: str


def user_ids(names):
    """Return the user ids of *names* that exist, as a frozenset that always has root's.

    Also this process's own: what it may do anyway needs no trust.
    """
    result = {0, os.geteuid()}
    for name in names:
        try:
            result.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return frozenset(result)


def weakness(path, trusted=frozenset({0}), itself=True):
    """Return the first Weakness on the way to the absolute *path*, or None.

    *trusted* are user ids. A part that does not exist yet ends the path: who may create it is
    known from the directory above. *itself*: whether the last part counts, too.
    """
    return _walk(path, trusted, itself)[1]


def resolve(path, trusted=frozenset({0}), itself=True):
    """Return (the path with its links followed, the first Weakness or None)."""
    return _walk(path, trusted, itself)


def check(option, value, path, trusted_users=(), itself=True, way_out=None):
    """Raise InvalidOption if others than root and *trusted_users* (names) could replace *path*.

    *option* and *value* are what the user wrote; *way_out* replaces the usual advice.
    """
    weak = weakness(path, user_ids(trusted_users), itself)
    if weak is not None:
        raise InvalidOption(
            option,
            value,
            f"lies at a place that others than root control: {weak.path} {weak.reason}",
            way_out or "Use a place that only root can write to",
            directory=weak.path,
        )


def _walk(path, trusted, itself):
    todo = [part for part in path.split("/") if part not in ("", ".")]
    at, links = "/", 0
    weak = _of_directory("/", trusted)
    while todo:
        if weak is not None:
            return at, weak
        part = todo.pop(0)
        if part == "..":
            at = os.path.dirname(at)
            continue
        above, at = at, os.path.join(at, part)
        try:
            found = os.lstat(at)
        except OSError:
            if _sticky_and_shared(above):
                weak = Weakness(
                    above, "is open to all users, who could create what is missing in it"
                )
            return os.path.join(at, *todo), weak
        if _sticky_and_shared(above) and found.st_uid not in trusted:
            return at, Weakness(at, f"belongs to {_user(found.st_uid)}")
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _LINKS:
                return at, Weakness(at, "is a link that leads in a circle")
            target = os.readlink(at)
            todo = [part for part in target.split("/") if part not in ("", ".")] + todo
            at = "/" if target.startswith("/") else above
            continue
        if todo or itself:
            weak = _of_directory(at, trusted, found)
    return at, weak


def _sticky_and_shared(directory):
    mode = os.lstat(directory).st_mode
    return bool(mode & stat.S_ISVTX) and bool(mode & (stat.S_IWOTH | stat.S_IWGRP))


def _of_directory(path, trusted, found=None):
    """Return the Weakness of this one directory or file, or None."""
    found = found or os.lstat(path)
    if found.st_uid not in trusted:
        return Weakness(path, f"belongs to {_user(found.st_uid)}")
    # In a sticky directory others cannot rename or remove what is not theirs.
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return None
    if found.st_mode & stat.S_IWOTH:
        return Weakness(path, "can be written by all users")
    if not found.st_mode & stat.S_IWGRP:
        return None
    named = _acl(path)
    # With an access control list the group's bits are those of its mask.
    for tag, number in named:
        if tag == _ACL_USER and number not in trusted:
            return Weakness(path, f"can be written by {_user(number)} (access control list)")
    groups = [number for tag, number in named if tag == _ACL_GROUP] + [found.st_gid]
    for group in groups:
        others = _members(group) - trusted
        if others:
            return Weakness(path, f"can be written by the group {_group(group)}")
    return None


def _acl(path):
    """Return [(tag, id)] of the users and groups that an access control list lets write."""
    try:
        data = os.getxattr(path, "system.posix_acl_access", follow_symlinks=False)
    except OSError:
        return []
    entries = list(struct.iter_unpack("<HHI", data[4:]))
    mask = next((rights for tag, rights, _number in entries if tag == _ACL_MASK), 7)
    return [
        (tag, number)
        for tag, rights, number in entries
        if tag in (_ACL_USER, _ACL_GROUP) and rights & mask & 2
    ]


def _members(group):
    """Return the user ids in the group, by either list."""
    members = {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group}
    try:
        names = grp.getgrgid(group).gr_mem
    except KeyError:
        names = []
    for name in names:
        try:
            members.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return members


def _user(number):
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def _group(number):
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
