# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions that are paused on this host: a file named after each, which the workers look at.

See docs/worker-facts.md, "Paused functions".
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from . import percent
from .directory import make_directory
from .errors import GearmanError
from .protocol import check_function

DIRECTORY = "/var/lib/gearvisor/paused"
MAX_NAME = 255  # bytes of a file's name; NAME_MAX of limits.h


class PauseError(GearmanError):
    """The paused functions cannot be read or changed; the message gives the reason."""


def paused(directory: str = DIRECTORY) -> dict[str, float]:
    """Return the paused functions and since when, in seconds since the epoch.

    Raises PauseError.
    """
    functions = {}
    try:
        with os.scandir(directory) as entries:
            for each in entries:
                name = percent.decoded(each.name)
                if name is not None:
                    since = each.stat(follow_symlinks=False).st_mtime
                    functions[name.decode(errors="surrogateescape")] = since
    except FileNotFoundError:
        pass
    except OSError as error:
        raise PauseError(f"{directory}: {error.strerror}") from error
    return functions


def pause(functions: Iterable[str], directory: str = DIRECTORY) -> list[str]:
    """Pause functions; return those that were not. Raises ValueError and PauseError."""
    changed = []
    names = _file_names(functions)
    try:
        make_directory(directory, 0o755)  # workers read it
    except OSError as error:
        raise _refused(directory, error) from error
    for function, name in names:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(os.path.join(directory, name), flags, 0o644))
            changed.append(function)
        except FileExistsError:
            continue
        except OSError as error:
            raise _refused(directory, error) from error
    return changed


def resume(functions: Iterable[str], directory: str = DIRECTORY) -> list[str]:
    """Let functions be served again; return those that were paused. Raises as pause does."""
    changed = []
    for function, name in _file_names(functions):
        try:
            os.unlink(os.path.join(directory, name))
            changed.append(function)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refused(directory, error) from error
    return changed


def _file_names(functions: Iterable[str]) -> list[tuple[str, str]]:
    """Return (function, file name) of each: all are checked before the first is changed."""
    names = []
    for function in functions:
        raw = function.encode(errors="surrogateescape")
        check_function(raw.decode(errors="replace"))
        name = percent.encoded(raw)
        if len(name) > MAX_NAME:
            raise ValueError(
                f"function name {function!r} takes {len(name)} bytes as the name of a file; the"
                f" limit is {MAX_NAME}"
            )
        names.append((function, name))
    return names


def _refused(directory: str, error: OSError) -> PauseError:
    return PauseError(f"{directory}: {error.strerror}. Run it as root, for example with sudo")
