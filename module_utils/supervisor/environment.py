# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program's environment variables: what becomes of each kind of YAML value. All pure.

Text stays as it is. Booleans and whole numbers become "true", "false" and
digits, null becomes an empty value, lists and mappings become JSON. A number
with a point is refused, because YAML has dropped how it was written.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping

from ..failure import InvalidOption
from .values import EXPANSIONS, MOST_ITEMS, checked_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_EXPANSION = re.compile(r"%\(([^()\s]{1,300})\)")


def literal(option, value):
    """{name: text}. Text stays as it is; what else YAML has becomes text as documented."""
    result = _typed(option, value)
    for name, content in result.items():
        found = next(
            (part for part in _EXPANSION.finditer(content) if _is_supervisors(part[1])), None
        )
        if found:
            raise InvalidOption(
                f"{option}.{name}",
                "(not shown)",
                f"holds {found.group()}, which looks like one of Supervisor's expansions; environment is literal",
                f"Move it to environment_expanded, where Supervisor fills it in and '%%{found.group()[1:]}' "
                "is the literal text",
            )
    return result


def _is_supervisors(name):
    """Return whether Supervisor would replace %(name)s, or would if it were spelt right."""
    return name.upper().startswith("ENV_") or bool(
        difflib.get_close_matches(name.lower(), EXPANSIONS, n=1, cutoff=0.8)
    )


def expanded(option, value):
    """{name: text in Supervisor's own syntax}; sections checks the expansions."""
    return _typed(option, value)


def _typed(option, value):
    if not isinstance(value, Mapping):
        raise InvalidOption(
            option,
            "(not shown)",
            "is not a mapping of names to values",
            "Write 'environment:' and below it one 'NAME: value' per line; quoting is done for you",
        )
    if len(value) > MOST_ITEMS:
        raise InvalidOption(
            option,
            "(not shown)",
            f"has {len(value)} variables, and the limit is {MOST_ITEMS}",
            "Put them into a file that the program reads",
        )
    for name in value:
        if not _NAME.match(str(name)):
            raise InvalidOption(
                option,
                name,
                "is not a valid name of an environment variable",
                "Use letters, digits and '_'",
            )
    return {
        str(name): _text(f"{option}.{name}", content)
        for name, content in sorted(value.items(), key=lambda item: str(item[0]))
    }


def _text(option, value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, tuple)):
        return _json(option, value)
    if isinstance(value, float):
        raise InvalidOption(
            option,
            "(not shown)",
            "is a number with a point, of which YAML keeps no more than its value: 1.10 is 1.1 by now",
            "Write it in quotes, or with '| string' when it comes from a template",
        )
    if not isinstance(value, (str, int)):
        raise InvalidOption(
            option,
            "(not shown)",
            f"is of type {type(value).__name__}, not text",
            "Write it in quotes",
        )
    if isinstance(value, int) and abs(value) >= 10**100:
        raise InvalidOption(option, "(not shown)", "is too long a number", "Write it in quotes")
    return checked_text(option, str(value), shown="(not shown)")


def _json(option, value):
    """Return JSON that Supervisor's quoting can always carry: its special characters as escapes."""
    try:
        result = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidOption(
            option,
            "(not shown)",
            "holds something that JSON does not have",
            "Use text, numbers, booleans, lists and mappings",
        ) from None
    # Outside of its strings, JSON has none of these.
    for character in "';#\x7f":
        result = result.replace(character, f"\\u{ord(character):04x}")
    return checked_text(option, result, shown="(not shown)")
