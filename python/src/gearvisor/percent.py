# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of functions and processes as names of files: percent-encoded.

As PHP's rawurlencode() does it, and a leading dot is encoded, too: so a name is never hidden,
never "." or "..", and never leaves its directory.
"""

from __future__ import annotations

import re

_UNRESERVED = re.compile(rb"[^A-Za-z0-9_.~-]|^\.")
_ENCODED = re.compile(r"(?:[A-Za-z0-9_.~-]|%[0-9A-F]{2})+")


def encoded(name: bytes) -> str:
    """Return the file name that stands for a name: "send mail" is "send%20mail"."""
    return _UNRESERVED.sub(lambda found: b"%%%02X" % found.group()[0], name).decode("ascii")


def decoded(file_name: str) -> bytes | None:
    """Return the name that encoded() made this of, or None if it made it of none."""
    if not _ENCODED.fullmatch(file_name):
        return None
    head, *rest = file_name.split("%")
    name = head.encode() + b"".join(bytes([int(each[:2], 16)]) + each[2:].encode() for each in rest)
    return name if encoded(name) == file_name else None
