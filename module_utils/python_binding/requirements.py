# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of a pip requirements file, as far as one has to understand them before pip does."""

from __future__ import annotations

import os
import re
import urllib.parse

from ..failure import InvalidOption

_INCLUDE = re.compile(r"\s*(?:-[rc]\s*|--(?:requirement|constraint)(?:\s+|\s*=\s*))([^\s#]\S*)")
_ARCHIVE = re.compile(r"(?:^|[\s@]|file://)(/[^\s#;]+\.(?:whl|zip|tar\.gz))(?=[\s#;]|\Z)")
# With ssh a name is no secret, and a password is never there.
_USERINFO = re.compile(r"(?<!ssh)://([^/\s@]+)@")


def contents(lines, missing_ok=False):
    """Return {path: bytes} of the files on this host that *lines* name, and those that these name.

    They are requirements and constraints files (-r, -c) and archives such as
    wheels, by absolute paths. Raises InvalidOption for files that cannot be
    read; with *missing_ok* those that do not exist are left out.
    """
    found = {}
    for line in lines:
        if "\n" in line:
            raise InvalidOption(
                "requirements", line, "holds a line break", "Write one requirement an item"
            )
        _collect(line, line, "/", found, missing_ok)
    return found


def _collect(line, item, directory, found, missing_ok):
    """Add what *line*, of a file in *directory* that *item* led to, names."""
    included = _INCLUDE.match(line)
    if included and "://" not in included.group(1):
        name = included.group(1)
        if line is item and not os.path.isabs(name):
            raise InvalidOption(
                "requirements",
                without_credentials(item),
                "is no absolute path on the host",
                f"Write '-r /path/to/{os.path.basename(name)}'",
            )
        path = os.path.normpath(os.path.join(directory, name))
        if path in found:  # which may be a circle
            return
        content = _read(path, item, missing_ok)
        if content is not None:
            found[path] = content
            for below in content.decode(errors="replace").splitlines():
                _collect(below, item, os.path.dirname(path), found, missing_ok)
        return
    for path in _ARCHIVE.findall(line):
        content = _read(path, item, missing_ok)
        if content is not None:
            found[path] = content


def _read(path, item, missing_ok):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError):
            return None
        raise InvalidOption(
            "requirements",
            without_credentials(item),
            f"needs {path}, which cannot be read on this host: {error.strerror}",
            "Deploy the file first, or correct the path",
        ) from None


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
