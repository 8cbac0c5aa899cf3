# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that other users control, read without root's rights.

A user who controls a directory decides what its names lead to, /etc/shadow for instance. So a file
below it is read with the rights of that directory's owner, and its content is treated as untrusted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from . import trust

# For a directory of root's that a group or everyone can write: a user without rights.
_NOBODY = 65534
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def read_bytes(path, most_bytes, trusted=frozenset({0})):
    """Return the content of the regular file at the absolute *path*, links followed.

    *trusted*: the ids of users that root trusts. Raises OSError, also for what is not a regular file
    (EINVAL) or larger than *most_bytes* (EFBIG).
    """
    weak = trust.weakness(path, trusted)
    with contextlib.ExitStack() as rights:
        if weak is not None:
            rights.enter_context(_rights_of_owner(weak.path))
        descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes} bytes", path)
    return content


@contextlib.contextmanager
def _rights_of_owner(path):
    """For the block, have no other rights to files than the owner of *path*."""
    if os.geteuid() != 0:
        yield
        return
    owner = os.lstat(path)
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    try:
        os.setegid(owner.st_gid or _NOBODY)
        os.seteuid(owner.st_uid or _NOBODY)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
