# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories on the host, made and opened by descriptor: a name that changes meanwhile is not followed."""

from __future__ import annotations

import contextlib
import os
import shutil

from ..failure import GearvisorError
from . import trust

# Of journal entries: a directory that is being made in the place of another.
KIND = "directory"

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened(path, trusted=frozenset({0})):
    """Yield a descriptor of the existing directory *path*.

    Links on the way are followed only where no user but the *trusted* ones (user ids) could have
    made or could change them; what is opened then is reached without following any. Raises
    GearvisorError where others could, OSError as open(2).
    """
    real, weak = trust.resolve(path, trusted)
    if weak is not None:
        raise GearvisorError(
            f"{path} is not touched: others than root control it, since {weak.path} {weak.reason}. "
            "Give it to root, or choose another place"
        )
    descriptor = _open(real)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(real):
    descriptor = os.open("/", _FLAGS)
    for part in [part for part in real.split("/") if part]:
        try:
            below = os.open(part, _FLAGS, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def missing(path):
    """Return the directories that have to be made so that *path* is one, topmost first."""
    result = []
    while not os.path.lexists(path):
        result.insert(0, path)
        path = os.path.dirname(path.rstrip("/"))
    return result


def make(path, mode=0o755, uid=0, gid=0, trusted=frozenset({0})):
    """Make the directory and what is missing above it; return those made, topmost first.

    *path* itself gets *mode* and the owner, whatever the umask; those above it are root's, 0755.
    An existing directory is left as it is. What was made is taken back if a later one fails.
    Raises GearvisorError and OSError as opened().
    """
    made = []
    try:
        for directory in missing(path):
            last = directory == path
            above, name = os.path.split(directory.rstrip("/"))
            with opened(above, trusted) as parent:
                os.mkdir(name, 0o700, dir_fd=parent)
                made.append(directory)
                descriptor = os.open(name, _FLAGS, dir_fd=parent)
                try:
                    os.fchown(descriptor, uid if last else 0, gid if last else 0)
                    os.fchmod(descriptor, mode if last else 0o755)
                finally:
                    os.close(descriptor)
    except BaseException:
        remove_empty(*reversed(made))
        raise
    return made


def remove_empty(*paths):
    """Remove those of the directories that are there and empty, in the order given."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)


def put_back(path, aside):
    """Remove the unfinished directory *path*, and put back what was moved *aside* for it, if anything."""
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(aside):
        os.rename(aside, path)


def undo(_host, facts):
    """Take back a directory that an interrupted run did not finish (the journal's undo of this kind)."""
    is_aside = os.path.lexists(facts["aside"])
    # Killed before the old one was moved aside: what is there is still the old one.
    untouched = facts.get("replaces") and not is_aside
    if untouched or not (is_aside or os.path.lexists(facts["path"])):
        return []
    put_back(facts["path"], facts["aside"])
    return [f"{facts['path']}, which was not finished, is gone or as it was before"]
