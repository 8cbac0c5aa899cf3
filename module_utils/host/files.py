# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the host: read, and replace in one step."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile


def read_text(path):
    """Return the file's text, or None when there is no such file."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def read_bytes(path):
    """Return the file's content, or None when there is no such file."""
    try:
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return None


def write_text(path, text, mode, uid=0, gid=0):
    """Replace the file in one step: readers see the old text or the new, never a part."""
    write_bytes(path, text.encode("utf-8"), mode, uid, gid)


def write_bytes(path, data, mode, uid=0, gid=0):
    """Replace the file in one step: readers see the old content or the new, never a part.

    The temporary name starts with a dot, so no include pattern like *.conf sees it.
    """
    directory, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def restore_text(path, text, mode, uid=0, gid=0):
    """Put back what read_text returned: None means that there was no file."""
    restore_bytes(path, None if text is None else text.encode("utf-8"), mode, uid, gid)


def restore_bytes(path, data, mode, uid=0, gid=0):
    """Put back what read_bytes returned: None means that there was no file."""
    if data is not None:
        write_bytes(path, data, mode, uid, gid)
    elif os.path.lexists(path):
        os.unlink(path)


def remove_empty(*directories):
    """Remove those of the directories that are there and empty."""
    for directory in directories:
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def diffs(before, after, shown=str):
    """Return Ansible's diff entries of the files in *after*; both are {path: text or None}.

    *shown* makes a text fit to be seen.
    """
    return [
        {
            "before_header": path,
            "after_header": path,
            "before": shown(before.get(path) or ""),
            "after": shown(text or ""),
        }
        for path, text in after.items()
    ]
