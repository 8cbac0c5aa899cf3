# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gearvisor on PATH: a link to the one in the virtual environment."""

from __future__ import annotations

import os

from ..host import directories


def target(venv):
    return os.path.join(venv, "bin/gearvisor")


def wanted(request):
    """Return what the link has to lead to, None where there must be none."""
    if request.state == "present" and request.binding == "gearvisor":
        return target(request.venv)
    return None


def current(request):
    """Return what the link leads to, None where it is not there or leads to another environment.

    A link of Gearvisor is one that leads to this or to another gearvisor command, dangling or not.
    """
    try:
        found = os.readlink(request.command)
    except OSError:
        return None
    return found if found.endswith("/bin/gearvisor") else None


def change(request):
    """Return (before, after, warnings); before and after are what the link leads to, or None.

    A file that is not such a link stays. When the environment goes, a link to another stays, too.
    """
    if not request.command:
        return None, None, []
    before, after = current(request), wanted(request)
    if before is None and os.path.lexists(request.command):
        warning = f"{request.command} is not a link that this module made: it stays as it is"
        return None, None, [warning] if after else []
    if after is None and before != target(request.venv):
        return before, before, []
    return before, after, []


def apply(request, after):
    """Make the link, replace it in one step, or remove it."""
    if after is None:
        os.unlink(request.command)
        return
    fresh = request.command + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    directories.make(os.path.dirname(request.command))
    os.symlink(after, fresh)
    os.replace(fresh, request.command)
