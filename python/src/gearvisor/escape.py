# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Untrusted text, made safe to show: no control characters, no line breaks.

Function names, client ids, unique ids and exception texts come from anyone who can reach a job
server. Printed raw, an ESC clears a terminal and a line feed forges a line of a log.
"""

from __future__ import annotations


def escaped(text: str, limit: int | None = None) -> str:
    """Return text with each unprintable character as Python writes it: "\\n", "\\x1b", "\\u202e".

    A byte that was not UTF-8 (a surrogate since decoding) is shown as "\\xff". A backslash stays
    as it is, for the sake of PHP class names: the result is for people, not for programs.
    limit: characters to keep at most; what was cut off is marked by "...".
    """
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - 3)] + "..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _code(each) for each in text)


def _code(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # what surrogateescape makes of a byte
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
