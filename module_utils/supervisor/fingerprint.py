# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A digest of a program's code, by which a deploy is noticed.

The trees belong to others: only regular files are read, never more than the
limits below, and what they hold goes nowhere but into the digest.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import re
import stat

from ..failure import InvalidOption

_MOST_FILES = 200_000
_MOST_BYTES = 4 * 1024**3
_CHUNK = 1024 * 1024
# Written by Python when the code first runs, and by version control without a change of the code.
_NEVER = ("__pycache__", ".git", ".hg", ".svn")
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ROTATED = re.compile(r"\.[0-9]{1,4}\Z")


def of_programs(programs, paths=(), logs=(), check_mode=False):
    """Return {name: digest or None} of typed programs, {name: (kind, options)}.

    *paths* count for programs without a fingerprint of their own. *logs* are
    the fleet's log files, which never count. Raises InvalidOption.
    """
    known, result = {}, {}
    for name, (_kind, program) in programs.items():
        own = program.get("fingerprint")
        exclude = tuple(program.get("fingerprint_exclude", ()))
        key = tuple(paths if own is None else own), exclude
        if key not in known:
            option = "fingerprint" if own is None else f"programs.{name}.fingerprint"
            known[key] = of_paths(*key, logs, check_mode, option)
        result[name] = known[key]
    return result


def of_paths(paths, exclude=(), logs=(), check_mode=False, option="fingerprint"):
    """Return a digest of the content of files and directories, or None for no paths.

    Names and contents count, times and modes do not. Of a path that is a link,
    as to a release or a virtual environment, only where it leads counts; of a
    link below a listed directory, where it leads, and the content of a file.
    *exclude* are patterns of names, or of paths from the listed directory on.
    Raises InvalidOption for a path that does not exist; in check mode an
    earlier task may be what deploys it.
    """
    if not paths:
        return None
    tree = _Tree(option, exclude, logs)
    for path in paths:
        tree.add_name(path)
        if os.path.islink(path):
            tree.digest.update(os.fsencode(os.path.realpath(path)))
        elif os.path.exists(path):
            try:
                tree.add(path)
            except RecursionError:
                raise InvalidOption(
                    option,
                    path,
                    "holds directories that are nested too deeply",
                    "Remove them, or list a smaller directory",
                ) from None
        elif not check_mode:
            raise InvalidOption(
                option, path, "does not exist", "Deploy the code first, or correct the path"
            )
    return tree.digest.hexdigest()


class _Tree:
    """Reads listed files and directories into one digest, up to the limits."""

    def __init__(self, option, exclude, logs):
        self.digest = hashlib.sha256()
        self._option = option
        self._exclude = exclude
        self._logs = frozenset(map(os.path.realpath, logs))
        self._files = self._bytes = 0

    def add_name(self, path):
        self.digest.update(os.fsencode(path) + b"\0")

    def add(self, root):
        if not os.path.isdir(root):
            self._add_file(root, root)
        for directory, below, names in os.walk(root):
            below[:] = sorted(
                name for name in below if not self._is_left_out(root, directory, name)
            )
            links = [name for name in below if os.path.islink(os.path.join(directory, name))]
            for name in sorted([*names, *links]):
                if not self._is_left_out(root, directory, name):
                    self._add_file(root, os.path.join(directory, name))

    def _is_left_out(self, root, directory, name):
        path = os.path.join(directory, name)
        if name in _NEVER:
            return True
        if self._logs and os.path.realpath(_ROTATED.sub("", path)) in self._logs:
            return True
        inside = os.path.relpath(path, root)
        return any(
            fnmatch.fnmatchcase(part, pattern.rstrip("/"))
            for pattern in self._exclude
            for part in (name, inside)
        )

    def _add_file(self, root, path):
        self._files += 1
        if self._files > _MOST_FILES:
            self._refuse(root, f"holds more than {_MOST_FILES} files")
        self.add_name(path)
        if os.path.islink(path):
            self.digest.update(b"-> " + os.fsencode(os.path.realpath(path)) + b"\0")
        with contextlib.ExitStack() as opened:
            try:
                descriptor = _open_file(path, opened)
            except OSError:
                # A link that leads nowhere, or a file that is gone meanwhile: its name counts.
                return
            if descriptor is not None:
                self.digest.update(self._content(root, descriptor))

    def _content(self, root, descriptor):
        content = hashlib.sha256()
        while True:
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                return content.digest()
            content.update(chunk)
            self._bytes += len(chunk)
            if self._bytes > _MOST_BYTES:
                self._refuse(root, f"holds more than {_MOST_BYTES // 1024**3} GB")

    def _refuse(self, root, problem):
        raise InvalidOption(
            self._option,
            root,
            problem,
            "List a smaller directory, the link to the release, or a file that every deploy changes; or leave "
            "out what is not code with fingerprint_exclude",
        )


def _open_file(path, opened):
    """Return a descriptor that *opened* (an ExitStack) closes, or None for what is not a regular file.

    The code's owner may have put a link to a device there, and opening one can do something.
    """
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    opened.callback(os.close, place)
    if not stat.S_ISREG(os.fstat(place).st_mode):
        return None
    descriptor = os.open(f"/proc/self/fd/{place}", _FLAGS)
    opened.callback(os.close, descriptor)
    return descriptor
