# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every program of the role finds in its environment: who and where it is. All pure but for users."""

from __future__ import annotations

import pwd
import re

from ..failure import InvalidOption
from .config_file import environment_values

# A client id has 127 bytes at most; the process's name and "#PID" belong to it.
_MOST = 115


def check(host):
    """Raise InvalidOption for a host's name that cannot be part of a client id."""
    if host and not re.fullmatch(r"[A-Za-z0-9_.:@-]{1,100}", host):
        raise InvalidOption(
            "inventory_hostname",
            host,
            "cannot be part of a worker's name",
            "Use at most 100 letters, digits and any of '_.:@-'",
        )


def identified(section, host):
    """Return the Section with GEARVISOR_WORKER, HOME and USER, where it does not set them itself.

    GEARVISOR_WORKER is HOST/PROCESS, HOME and USER are those of the program's user.
    """
    environment = section.options.get("environment", "")
    given = environment_values(environment)
    name = section.options.get("process_name", section.group)
    values = {"GEARVISOR_WORKER": f"{host[: _MOST - len(section.group)]}/{name}"}
    values.update(_of_user(section.options.get("user")))
    added = [f'{key}="{value}"' for key, value in values.items() if key not in given]
    if not added:
        return section
    options = {**section.options, "environment": ",".join([*added, environment]).rstrip(",")}
    return section._replace(options={key: options[key] for key in _in_order(section, options)})


def _in_order(section, options):
    """Return the options' names with environment where it was, or else last."""
    return [*section.options, *(key for key in options if key not in section.options)]


def _of_user(user):
    if user is None:
        return {}
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        # A user that this call will create has no home.
        return {"HOME": "/nonexistent", "USER": user}
    if re.search(r"[\"'\\\n]|\s[;#]|%", entry.pw_dir):
        return {"USER": entry.pw_name}
    return {"HOME": entry.pw_dir, "USER": entry.pw_name}
