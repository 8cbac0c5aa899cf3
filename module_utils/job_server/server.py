# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module gearman_job_server: its options, and which state leads where."""

from __future__ import annotations

from ..failure import InvalidOption
from ..keeper.choice import MANAGERS
from . import absent, options, package_version, present, queues
from .state import Request

_LONGEST_SECONDS = 7 * 24 * 60 * 60
_STATES = ("present", "restarted", "stopped", "absent")

ARGUMENTS = {
    "state": {"type": "str", "choices": list(_STATES), "default": "present"},
    "version": {"type": "str"},
    **options.arguments(),
    "queue": {
        "type": "dict",
        "default": {},
        "options": {
            "type": {"type": "str", "choices": list(queues.TYPES), "default": "builtin"},
            "path": {"type": "path"},
            "host": {"type": "str"},
            "port": {"type": "int"},
            "user": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "database": {"type": "str"},
            "table": {"type": "str"},
            "prefix": {"type": "str"},
            "servers": {"type": "list", "elements": "str"},
            "accept_known_defects": {"type": "bool", "default": False},
            "accept_plaintext": {"type": "bool", "default": False},
        },
    },
    "restart": {"type": "str", "choices": ["auto", "drain", "force", "never"], "default": "auto"},
    "drain_timeout": {"type": "int", "default": 300},
    "service_manager": {"type": "str", "choices": list(MANAGERS), "default": "auto"},
    "ready_timeout": {"type": "int", "default": 30},
}


def request_from(params):
    """Return the Request of the module's parameters; raises InvalidOption."""
    for option in ("drain_timeout", "ready_timeout"):
        if not 1 <= params[option] <= _LONGEST_SECONDS:
            raise InvalidOption(
                option,
                params[option],
                f"is not from 1 to {_LONGEST_SECONDS}",
                "Give a number of seconds",
            )
    package_version.check(params["version"])
    others = {name: params[name] for name in Request._fields if name != "settings"}
    return Request(settings=options.typed_settings(params), **others)


def converge(params, host):
    """Make the host's job server as requested; return the module's Outcome."""
    request = request_from(params)
    if request.state == "absent":
        return absent.absent(request, host)
    if request.state == "stopped":
        return absent.stopped(request, host)
    return present.converge(request, host)
