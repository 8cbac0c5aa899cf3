# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a queue's suboptions: what gearmand, its file and its database can take. All pure.

Each check takes the option's name and its value, and returns what gearmand is given. It raises
InvalidOption.
"""

from __future__ import annotations

import ipaddress
import os
import re

from ..failure import InvalidOption

# Its removal would follow the package's purge anywhere below /var/lib/gearman.
QUEUE_PATH = "/var/lib/gearvisor/gearmand/queue.sqlite3"
# Empty after a reboot, or hidden from the service by systemd.
_NO_PLACES = ("/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var/run", "/var/tmp")
NOT_SHOWN = "(not shown)"
_LONGEST_WORD = 255
_LONGEST_PATH = 4095


def word(option, value):
    if len(value) <= _LONGEST_WORD and re.fullmatch(r"(?!-)[!-~]+", value) and is_carried(value):
        return value
    raise InvalidOption(
        option,
        value,
        f"is empty, longer than {_LONGEST_WORD}, begins with '-' or holds white space, a quote, a backslash "
        "or a letter beyond ASCII, which gearmand's file cannot represent",
        "Use a name without them",
    )


def is_carried(value):
    """Return whether gearmand's file carries the text: it has words, and no quoting."""
    return not re.search(r"[\s\0-\x1f\x7f\ud800-\udfff\"'\\]", value)


def name_check(longest, words=frozenset(), prefix=None):
    """Return a check of a name in SQL, which gearmand writes without quotes.

    *words* are those that SQL keeps for itself, *prefix* is what the database keeps for itself.
    """

    def check(option, value):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) or len(value) > longest:
            raise InvalidOption(
                option,
                value,
                "is not a usable name",
                f"Use letters, digits and '_', at most {longest}, not beginning with a digit",
            )
        if value.lower() in words or (prefix and value.lower().startswith(prefix)):
            raise InvalidOption(
                option,
                value,
                "is a reserved word of the database, and gearmand does not quote names in its SQL",
                f"Choose another name, for example gearman_{value.lower()}",
            )
        return value

    return check


def port(option, value):
    if 1 <= value <= 65535:
        return value
    raise InvalidOption(option, value, "is not from 1 to 65535", "Use the database's port")


def path(option, value):
    if not value.startswith("/") or value.endswith("/") or len(os.fsencode(value)) > _LONGEST_PATH:
        raise InvalidOption(
            option, value, "is not an absolute path of a file", f"Use for example {QUEUE_PATH}"
        )
    if not is_carried(value) or "--" in value:
        raise InvalidOption(
            option,
            value,
            "holds white space, a quote, a backslash, a control character or '--', which gearmand's file "
            "cannot represent",
            f"Use for example {QUEUE_PATH}",
        )
    path = os.path.normpath(value)
    if path == "/" or any(path.startswith(f"{place}/") for place in _NO_PLACES):
        raise InvalidOption(
            option,
            value,
            "is where a queue cannot stay: systemd hides that place from the service, or a reboot empties it",
            f"Use for example {QUEUE_PATH}, or a path below /srv",
        )
    return path


def password(option, value):
    if re.fullmatch(r"[!-~]+", value) and is_carried(value):
        return value
    raise InvalidOption(
        option,
        NOT_SHOWN,
        "is empty or holds white space, a quote, a backslash or a letter beyond ASCII, which gearmand's "
        "file cannot represent",
        "Use another password, or none and a login without one (docs/queues.md)",
    )


def any_password(option, value):
    """Check a password that is written percent-encoded."""
    if value and not re.search(r"[\0\ud800-\udfff]", value):
        return value
    raise InvalidOption(
        option,
        NOT_SHOWN,
        "is empty, or holds NUL or an incomplete character",
        "Use another password, or leave it out for a login without one",
    )


def servers(option, value):
    for server in value:
        word(option, server)
        match = re.fullmatch(r"[^:,]+(?::([0-9]{1,5}))?", server)
        if match is None or not 1 <= int(match.group(1) or 11211) <= 65535:
            raise InvalidOption(
                option, server, "is not host:port", "Use for example 127.0.0.1:11211"
            )
    if not value:
        raise InvalidOption(option, value, "is empty", "Use for example [127.0.0.1:11211]")
    return ",".join(value)


def is_local(host):
    """Return whether the database is reached without a network: by loopback or a socket."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
