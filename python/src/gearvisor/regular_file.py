# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a file that another user may have put there."""

from __future__ import annotations

import errno
import os
import stat


def read(path: str, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises OSError: it cannot be read; it is a link, a directory or a FIFO (never waited for); or it
    is larger. Links in the directories before it are followed.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        parts: list[bytes] = []
        left = limit + 1
        while left > 0:
            part = os.read(descriptor, min(left, 2**20))
            if not part:
                return b"".join(parts)
            parts.append(part)
            left -= len(part)
        raise OSError(errno.EFBIG, f"over {limit} bytes", path)
    finally:
        os.close(descriptor)
