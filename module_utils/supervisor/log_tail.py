# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a program's log, which may hold any bytes.

It is read from the file: over XML-RPC, supervisord cannot send what is not UTF-8, and sends control
characters in a way that no XML parser takes.
"""

from __future__ import annotations

import os
import re
import stat

# Others may own the directory of a log that was there before us: no link is followed to a secret.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
# Colours, cursor movements, titles and character sets (ECMA-48 and ECMA-35).
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]P^_][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]+[0-~]|\x1b[0-?]"
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def tail(path, size=2000):
    """Return at most *size* bytes of the end of the file as text; "" when it cannot be read."""
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return ""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return ""
        data = os.pread(descriptor, size, max(0, found.st_size - size))
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    if found.st_size > size:
        # Begin with a whole line, if there is one.
        data = data[data.find(b"\n") + 1 :]
    return printable(data).strip()


def printable(data):
    """Return bytes as text for a terminal: colours left out, what is unprintable replaced."""
    text = _SEQUENCE.sub("", data.decode("utf-8", "replace").removeprefix("\ufeff"))
    # A progress bar goes back to the begin of its line.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        character if character in "\n\t" or character.isprintable() else REPLACEMENT
        for character in text
    )
