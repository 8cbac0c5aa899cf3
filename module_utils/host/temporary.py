# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Temporary directories that name their run, so that those of a killed one are found and removed."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import stat
import tempfile

from . import processes

# Where runs make temporary directories.
PARENTS = ("/tmp", "/usr/local/src")
_PREFIX = "gearvisor-run-"


def make(parent=None):
    """Make a directory that others may pass through but not list; return its path.

    *parent* is one of PARENTS, by default the first.
    """
    prefix = f"{_PREFIX}{os.getpid()}-{processes.started(os.getpid())}-"
    path = tempfile.mkdtemp(prefix=prefix, dir=parent)
    os.chmod(path, 0o711)
    return path


@contextlib.contextmanager
def directory():
    """For the block, have the module tempfile make everything in a directory of this run."""
    path = make()
    former, tempfile.tempdir = tempfile.tempdir, path
    try:
        yield path
    finally:
        tempfile.tempdir = former
        shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(parents):
    """Remove the directories of runs that are gone. Only what root made counts."""
    for parent in parents:
        for path in glob.glob(os.path.join(glob.escape(parent), f"{_PREFIX}*")):
            match = re.match(rf"{_PREFIX}(\d+)-(\d+)-", os.path.basename(path))
            if match is None or processes.started(match.group(1)) == int(match.group(2)):
                continue
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                    shutil.rmtree(path, ignore_errors=True)
