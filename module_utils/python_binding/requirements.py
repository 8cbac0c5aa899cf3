# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of a pip requirements file, as far as one has to understand them before pip does.

pip gets copies of the files that they name: it does not run as root, and the files may belong to
users that root does not trust, so what was checked must be what is installed.
"""

from __future__ import annotations

import os
import re
import urllib.parse

from ..failure import InvalidOption
from ..host import foreign, trust
from ..host.files import write_bytes

_INCLUDE = re.compile(r"\s*(?:-[rc]\s*|--(?:requirement|constraint)(?:\s+|\s*=\s*))([^\s#]\S*)")
_ARCHIVE = re.compile(r"(?:^|[\s@]|file://)(/[^\s#;]+\.(?:whl|zip|tar\.gz))(?=[\s#;]|\Z)")
# Directories, which pip reads itself: a project's source, or one of archives.
_DIRECTORY = re.compile(
    r"(?:^\s*|@\s*|(?:-[ef]|--editable|--find-links|-i|--index-url|--extra-index-url)(?:\s+|\s*=\s*))"
    r"(?:[a-z+]*file://)?(/[^\s#;\[]+)"
)
# With ssh a name is not secret, and a password is never there.
_USERINFO = re.compile(r"(?<!ssh)://([^/\s@]+)@")
_MOST_TEXT = 1024 * 1024
_MOST_ARCHIVE = 1024 * 1024 * 1024
_MOST_FILES = 1000


def contents(lines, missing_ok=False, trusted_users=()):
    """Return {path: bytes} of the files on this host that *lines* name, and those that these name.

    They are requirements and constraints files (-r, -c) and archives such as wheels, by absolute
    paths. Raises InvalidOption for files that cannot be read, and for directories that others than
    root and *trusted_users* can write; with *missing_ok* files that do not exist are left out.
    """
    reader = _Reader(missing_ok, trusted_users)
    for line in lines:
        if re.search(r"[\0-\x08\n-\x1f\x7f\ud800-\udfff]", line):
            raise InvalidOption(
                "requirements",
                without_credentials(line),
                "holds a line break or another control character",
                "Write one requirement an item",
            )
        reader.collect(line, line, "/")
    return reader.found


class _Reader:
    def __init__(self, missing_ok, trusted_users):
        self._missing_ok = missing_ok
        self._trusted_users = trusted_users
        self._trusted = trust.user_ids(trusted_users)
        self.found = {}

    def collect(self, line, item, directory):
        """Add what *line*, of a file in *directory* that *item* led to, names."""
        name = _included(line)
        if name is not None:
            if line is item and not os.path.isabs(name):
                raise InvalidOption(
                    "requirements",
                    without_credentials(item),
                    "is not an absolute path on the host",
                    f"Write '-r /path/to/{os.path.basename(name)}'",
                )
            self._include(os.path.normpath(os.path.join(directory, name)), item)
            return
        archives = _ARCHIVE.findall(line)
        for path in archives:
            self._read(path, item, _MOST_ARCHIVE)
        for path in _DIRECTORY.findall(line):
            if path not in archives:
                trust.check(
                    "requirements",
                    without_credentials(item),
                    path,
                    self._trusted_users,
                    way_out=_way_out(path),
                )

    def _include(self, path, item):
        if path in self.found:  # which may be a circle
            return
        content = self._read(path, item, _MOST_TEXT)
        for below in (content or b"").decode(errors="replace").splitlines():
            self.collect(below, item, os.path.dirname(path))

    def _read(self, path, item, most_bytes):
        problem = None
        try:
            self.found[path] = foreign.read_bytes(path, most_bytes, self._trusted)
            if len(self.found) <= _MOST_FILES:
                return self.found[path]
            problem = f"is one of more than {_MOST_FILES} files"
        except OSError as error:
            if self._missing_ok and isinstance(error, FileNotFoundError):
                return None
            problem = f"cannot be read on this host: {error.strerror}"
        raise InvalidOption(
            "requirements",
            without_credentials(item),
            f"needs {path}, which {problem}",
            "Deploy the file first, or correct the path",
        )


def _included(line):
    """Return the name of the file on this host that the line includes, or None."""
    included = _INCLUDE.match(line)
    return included.group(1) if included and "://" not in included.group(1) else None


def _way_out(path):
    return (
        f"Give it to root, name a wheel instead of {path}, or trust its owner with trusted_users "
        "(gearman_trusted_users)"
    )


class Copies:
    """Copies of the files that requirements name, {path: bytes}, in a separate directory."""

    def __init__(self, directory, files):
        self._directory = directory
        self._files = files
        # pip knows an archive by its name, so it stays; a number keeps two apart.
        self._places = {
            path: os.path.join(directory, str(number), os.path.basename(path))
            for number, path in enumerate(sorted(files))
        }

    def write(self, lines, give):
        """Write the copies; return *lines* with their paths. *give* hands a path to pip's user."""
        os.mkdir(self._directory, 0o700)
        for path, content in self._files.items():
            place = self._places[path]
            os.mkdir(os.path.dirname(place), 0o700)
            if not path.endswith((".whl", ".zip", ".tar.gz")):
                text = content.decode(errors="surrogateescape")
                below = [self._moved(line, os.path.dirname(path)) for line in text.splitlines()]
                content = "".join(f"{line}\n" for line in below).encode(errors="surrogateescape")
            write_bytes(place, content, 0o600, -1, -1)
            give(place, os.path.dirname(place))
        give(self._directory)
        return [self._moved(line, "/") for line in lines]

    def _moved(self, line, directory):
        """Return the line with the copies' paths in place of the files' own."""
        name = _included(line)
        if name is not None:
            place = self._places.get(os.path.normpath(os.path.join(directory, name)))
            return line.replace(name, place, 1) if place else line
        for path in _ARCHIVE.findall(line):
            if path in self._places:
                line = line.replace(path, self._places[path], 1)
        return line


def credentials(texts):
    """Return the passwords and tokens in the URLs in *texts*, as they are written and as they are meant.

    >>> sorted(credentials(["-i https://me:p%40ss@example.org/simple", "git+https://token@example.org/x"]))
    ['p%40ss', 'p@ss', 'token']
    """
    found = set()
    for userinfo in (match for text in texts for match in _USERINFO.findall(text)):
        user, _colon, password = userinfo.partition(":")
        secret = password or user
        found |= {secret, urllib.parse.unquote(secret)}
    return found


def without_credentials(text):
    """Return *text* without the names and passwords in its URLs.

    >>> without_credentials("--index-url https://me:secret@example.org/simple")
    '--index-url https://example.org/simple'
    """
    return _USERINFO.sub("://", text)
