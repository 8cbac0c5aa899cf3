# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the host: read, and replace in one step, without following links that others made."""

from __future__ import annotations

import contextlib
import glob
import os
import pathlib

from . import directories

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = ".gearvisor-"


def read_text(path):
    """Return the file's text, or None when it does not exist."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def read_bytes(path):
    """Return the file's content, or None when it does not exist."""
    try:
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError:
        return None


def write_text(path, text, mode, uid=0, gid=0):
    """Replace the file in one step: readers see the old text or the new, never a part."""
    write_bytes(path, text.encode("utf-8"), mode, uid, gid)


def write_bytes(path, data, mode, uid=0, gid=0, trusted=None):
    """Replace the file in one step: readers see the old content or the new, never a part.

    The temporary name starts with a dot, so no include pattern like *.conf sees it. Mode and
    owner hold whatever the umask is; an id of -1 leaves it. With *trusted* user ids, raises
    GearvisorError if any other user controls the directory.
    """
    directory, name = os.path.split(path)
    temporary = temporary_name(name)
    with _opened(directory or ".", trusted) as parent:
        descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise


def temporary_name(name):
    """Return the name beside *name* that this process writes before it replaces it."""
    return f".{name[:200]}{_TEMPORARY}{os.getpid()}"


def remove_temporaries(path):
    """Remove what killed processes have left beside *path* of a replacement of it."""
    directory, name = os.path.split(path)
    for left in glob.glob(
        os.path.join(glob.escape(directory), f".{glob.escape(name[:200])}{_TEMPORARY}*")
    ):
        with contextlib.suppress(OSError):
            os.unlink(left)


def remove_all_temporaries(directory):
    """Remove what killed processes have left in a directory whose files only this host's runs write."""
    for left in glob.glob(os.path.join(glob.escape(directory), f".*{_TEMPORARY}*")):
        with contextlib.suppress(OSError):
            os.unlink(left)


@contextlib.contextmanager
def _opened(directory, trusted):
    if trusted is not None:
        with directories.opened(directory, trusted) as parent:
            yield parent
        return
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield parent
    finally:
        os.close(parent)


def restore_text(path, text, mode, uid=0, gid=0):
    """Put back what read_text returned: None means that it did not exist."""
    restore_bytes(path, None if text is None else text.encode("utf-8"), mode, uid, gid)


def restore_bytes(path, data, mode, uid=0, gid=0):
    """Put back what read_bytes returned: None means that it did not exist."""
    if data is not None:
        write_bytes(path, data, mode, uid, gid)
    elif os.path.lexists(path):
        os.unlink(path)


def remove_empty(*paths):
    """Remove those of the directories that are there and empty."""
    directories.remove_empty(*paths)


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
