# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module gearman_php_extension was asked for, and what of it is invalid on every host."""

from __future__ import annotations

import os
import re
import types
from typing import NamedTuple

from ..failure import InvalidOption
from ..host import trust
from ..host.files import read_text
from . import tarball
from .sapis import SAPIS

_VERSION = re.compile(r"\d+\.\d+\Z")
# What version 0.1.0 had beside worker.php; a user's own file of that name is left.
_FORMER_FILES = ("functions.php", "reports.php", "timers.php")
_OURS = "Copyright: Gearvisor contributors"


class Request(NamedTuple):
    """What the module was asked for: its options.

    *php*: versions such as "8.2", empty for those found; *sapis*: likewise; *version*: of the
    Debian package, or the release for method "source". *worker_files* is {relative path: text}, put
    into *worker_directory*.
    """

    state: str = "present"
    method: str = "package"
    php: tuple = ()
    sapis: tuple = ("cli",)
    version: str = None
    url: tuple = ()
    path: str = None
    debian: bool = True
    checksum: str = None
    run_tests: bool = False
    worker_directory: str = None
    worker_files: dict = types.MappingProxyType({})


def request_of(params):
    """Return the Request of the module's parameters."""
    given = {name: params[name] for name in Request._fields}
    return Request(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})


def check_request(request):
    """Raise InvalidOption for values that are invalid on every host."""
    for version in request.php:
        if not _VERSION.match(version):
            raise InvalidOption(
                "php", version, "is not a PHP version", "Write it like '8.2', in quotes"
            )
    for sapi in request.sapis:
        if sapi not in SAPIS:
            raise InvalidOption(
                "sapis", sapi, "is not a SAPI of Debian's PHP", f"Use {', '.join(SAPIS)}"
            )
    tarball.check_options(request)


def worker_texts(request):
    """Return {path: text, or None for one of a former version} of the worker's files.

    Raises InvalidOption for names and places that cannot be.
    """
    if not request.worker_files:
        return {}
    if not (request.worker_directory or "").startswith("/"):
        raise InvalidOption(
            "worker_directory",
            request.worker_directory,
            "is not an absolute path",
            "Use a path like /opt/gearvisor/php",
        )
    trust.check("worker_directory", request.worker_directory, request.worker_directory)
    for name, text in request.worker_files.items():
        if not isinstance(text, str):
            raise InvalidOption(
                f"worker_files.{name}", text, "is not a text", "Give the file's content as one text"
            )
        if any(part in ("", ".", "..") for part in name.split("/")) or name.startswith("."):
            raise InvalidOption(
                "worker_files",
                name,
                "is not a path below worker_directory",
                "Leave out .. and a slash in front",
            )
    texts = {
        os.path.join(request.worker_directory, name): text
        for name, text in request.worker_files.items()
    }
    for name in _FORMER_FILES:
        path = os.path.join(request.worker_directory, name)
        if path not in texts and _OURS in (read_text(path) or ""):
            texts[path] = None
    return dict(sorted(texts.items()))
