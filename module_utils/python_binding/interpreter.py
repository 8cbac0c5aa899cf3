# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python that virtual environments are made with: Debian's own, or another on the host."""

from __future__ import annotations

import glob
import json
import os
import re
import stat

from ..failure import InvalidOption
from ..host import packages

OLDEST = (3, 9)
_PLACES = ("/usr/bin/python3.*", "/usr/local/bin/python3.*")
# Debian splits ensurepip off, without which an environment has no pip. For old Pythons' sake
# this is written in what all of them understand.
_PROBE = """\
import json, sys
try:
    import ensurepip, venv
    missing = None
except ImportError as error:
    missing = str(error)
print(json.dumps([list(sys.version_info[:3]), missing]))
"""


def ready(run, path, check_mode=False, run_unprivileged=None):
    """Return the "3.11" of the interpreter at *path*, once environments can be made with it.

    What Debian splits off is installed; in check mode None is returned then. The interpreter itself
    is run by *run_unprivileged*, by default *run*: it may belong to anyone.
    Raises InvalidOption for an interpreter that is not there or does not fit.
    """
    if not os.path.isabs(path):
        raise InvalidOption(
            "python", path, "is not an absolute path", "Use a path like /usr/bin/python3"
        )
    run_unprivileged = run_unprivileged or run
    package = debian_package(path)
    answer, reason = _ask(run_unprivileged, path)
    if package and (answer is None or answer[1]):
        _check_age(path, answer)
        if check_mode:
            return None
        packages.install(run, [package], f"python: {path!r}")
        answer, reason = _ask(run_unprivileged, path)
    if answer is None:
        raise InvalidOption(
            "python",
            path,
            f"does not run on this host: {reason}",
            f"Install it first, or use {' or '.join(_others() or ['/usr/bin/python3'])}",
        )
    _check_age(path, answer)
    version, missing = answer
    if missing:
        raise InvalidOption(
            "python",
            path,
            f"cannot make virtual environments: {missing}",
            "Install it with its modules venv and ensurepip (Debian's has them in the package "
            f"{package or 'python3-venv'}), or use /usr/bin/python3",
        )
    return ".".join(map(str, version[:2]))


def _check_age(path, answer):
    if answer is not None and tuple(answer[0]) < OLDEST:
        raise InvalidOption(
            "python",
            path,
            f"is Python {'.'.join(map(str, answer[0]))}",
            f"Use {'.'.join(map(str, OLDEST))} or later, such as /usr/bin/python3",
        )


def debian_package(path):
    """Return the Debian package that makes virtual environments with *path*, or None: not Debian's.

    >>> debian_package("/usr/bin/python3"), debian_package("/usr/bin/python3.13")
    ('python3-venv', 'python3.13-venv')
    """
    name = re.fullmatch(r"/usr/bin/(python3(?:\.\d+)?)", path)
    return f"{name.group(1)}-venv" if name else None


def closed_directory(path):
    """Return the directory above *path* that keeps other users out, or None; like root's home.

    What does not exist yet keeps no one out.
    """
    directory = os.path.dirname(os.path.realpath(path))
    while directory != "/":
        if os.path.isdir(directory) and not os.stat(directory).st_mode & stat.S_IXOTH:
            return directory
        directory = os.path.dirname(directory)
    return None


def _ask(run, path):
    """Return ((version, what is missing), None), or (None, why it does not run)."""
    try:
        # -I keeps out what the environment or the current directory would put on the import path.
        rc, out, err = run([path, "-I", "-c", _PROBE])
    except OSError as error:
        return None, error.strerror
    try:
        return json.loads(out), None
    except ValueError:
        output = re.sub(r"^timeout: failed to run command .*: ", "", (err or out).strip())
        return None, "; ".join(output.splitlines()[-2:]) or f"exit code {rc}"


def _others():
    """Return the interpreters in the usual places."""
    found = (path for place in _PLACES for path in glob.glob(place))
    return sorted(path for path in found if re.search(r"python3\.\d+\Z", path))
