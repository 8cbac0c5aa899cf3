# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of a program's options: what each value may be, and its bounds. All pure.

Every function takes the option's full name, as errors show it, and the value
as the user wrote it; it returns the value in its type or raises InvalidOption.
"""

from __future__ import annotations

import os.path
import re
import signal
from collections.abc import Mapping

from ..failure import InvalidOption

_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1", "y", "t"), True),
    **dict.fromkeys(("false", "no", "off", "0", "n", "f"), False),
}
_BYTES = re.compile(r"([0-9]{1,18}) ?(KB|MB|GB)?\Z", re.IGNORECASE)
_BYTE_UNITS = {"": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
# Nothing that a configuration file, an argument list or a terminal would take as an end or a command.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_LINE_BREAK = re.compile(r"[\n\r\0]")
# Linux gives a program no single argument or variable above this (MAX_ARG_STRLEN).
_LONGEST_TEXT = 131_072
_LONGEST_PATH = 4_096
MOST_ITEMS = 1_000
# gearmand refuses longer function names (GEARMAN_FUNCTION_MAX_SIZE in libgearman).
_LONGEST_FUNCTION = 512
# What Supervisor replaces, besides ENV_NAME (its manual, and supervisor/options.py).
EXPANSIONS = (
    "here",
    "host_node_name",
    "program_name",
    "group_name",
    "process_num",
    "numprocs",
)
_USER = r"[A-Za-z0-9_.][A-Za-z0-9_.@+$-]{0,254}"


def scalar(value):
    """Return text and numbers as text, and "" for anything else."""
    try:
        return str(value) if isinstance(value, (str, int, float)) else ""
    except ValueError:
        # A number with thousands of digits.
        return ""


def text(option, value):
    """Text for one line of Supervisor's configuration."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise InvalidOption(option, value, "is not text", "Write it as one quoted string")
    result = checked_text(option, scalar(value))
    if re.search(r"\s[;#]", result):
        raise InvalidOption(
            option,
            value,
            "holds white space followed by ';' or '#', where Supervisor begins a comment, in quotes too",
            "Leave out the space, or move the command into a script",
        )
    return result.strip()


def checked_text(option, value, longest=_LONGEST_TEXT, shown=None):
    """Return the text *value*; refuse what no option may hold. *shown* replaces it in errors."""
    if len(value) >= longest or len(value.encode(errors="replace")) >= longest:
        raise InvalidOption(
            option,
            shown or value,
            f"is {len(value)} characters long, and the limit is {longest - 1} bytes",
            "Put it into a file that the program reads",
        )
    if _LINE_BREAK.search(value):
        raise InvalidOption(
            option,
            shown or value,
            "holds a line break, which would begin another line of the configuration",
            "Write it on one line; in YAML, fold a long one with '>-'",
        )
    if _CONTROL.search(value):
        raise InvalidOption(
            option,
            shown or value,
            "holds a control character or half of a surrogate pair",
            "Write it in plain text; a tab is the only control character that is accepted",
        )
    return value


def boolean(option, value):
    """What Supervisor takes for a boolean, and Ansible's own spellings."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = scalar(value)[:20].strip().lower()
    if word in _BOOLEANS:
        return _BOOLEANS[word]
    raise InvalidOption(option, value, "is neither true nor false", "Write true or false")


def number(option, value, lowest=0, highest=MOST_ITEMS, why="the limit"):
    """A whole number from *lowest* to *highest*; *why* explains the limit."""
    if isinstance(value, float) and value.is_integer():
        # As Jinja divides: {{ 24 / 2 }} is 12.0.
        value = int(value)
    digits = "" if isinstance(value, bool) else scalar(value)[:30].strip()
    if re.match(r"-?[0-9]+\.0\Z", digits):
        digits = digits[:-2]
    if not re.match(r"-?[0-9]{1,20}\Z", digits):
        raise InvalidOption(
            option, value, "is not a whole number", "Write digits only, without a unit"
        )
    result = int(digits)
    if not lowest <= result <= highest:
        side = f"below {lowest}" if result < lowest else f"above {highest}, {why}"
        raise InvalidOption(option, value, f"is {side}", f"Use {lowest} to {highest}")
    return result


def byte_size(option, value, lowest=0, highest=2**40, why="the limit"):
    """A size as Supervisor writes it, such as "20MB"; kept as text."""
    match = None if isinstance(value, bool) else _BYTES.match(scalar(value)[:30])
    if not match:
        raise InvalidOption(
            option,
            value,
            "is not a size",
            "Use digits, alone or followed by KB, MB or GB",
        )
    if not lowest <= byte_count(str(value)) <= highest:
        raise InvalidOption(option, value, f"is above {highest} bytes, {why}", "Use a smaller size")
    return str(value)


def byte_count(size):
    """Return a size such as "1MB" in bytes; "0" means a log that is never rotated."""
    digits, unit = _BYTES.match(size).groups()
    return int(digits) * _BYTE_UNITS[(unit or "").upper()]


def autorestart(option, value):
    if scalar(value)[:20].strip().lower() == "unexpected":
        return "unexpected"
    try:
        return boolean(option, value)
    except InvalidOption:
        raise InvalidOption(
            option,
            value,
            "is not one of Supervisor's three",
            "Use true, false or unexpected",
        ) from None


def exit_codes(option, value):
    codes = [
        code
        for code in _items(option, value, "exit codes")
        if not (isinstance(code, str) and code.strip() == "")
    ]
    try:
        return [number(option, code, 0, 255, "the highest exit code") for code in codes]
    except InvalidOption as error:
        problem = "holds a code above 255" if "above" in str(error) else "is not a whole number"
        raise InvalidOption(option, value, problem, "Use a list of 0 to 255") from None


def signal_name(option, value):
    name = scalar(value)[:20].strip().upper()
    name = name[3:] if name.startswith("SIG") else name
    if re.match(r"[0-9]+\Z", name):
        known = int(name) in {int(item) for item in signal.Signals}
    else:
        known = re.match(r"[A-Z0-9]+\Z", name) and hasattr(signal.Signals, "SIG" + name)
    if isinstance(value, bool) or not known:
        raise InvalidOption(
            option,
            value,
            "is not a signal",
            "Use TERM, INT, HUP, QUIT, KILL, USR1 or USR2",
        )
    return name


def octal(option, value):
    if isinstance(value, str) and re.match(r"0?[0-7]{1,3}\Z", value):
        return value
    raise InvalidOption(
        option,
        value,
        "is not a quoted octal mode",
        "Quote it, as in umask: '027': YAML reads 027 as 23",
    )


def events(option, value):
    names = [scalar(name)[:100].strip() for name in _items(option, value, "events")]
    for name in names:
        if not re.match(r"[A-Z][A-Z0-9_]{0,60}\Z", name):
            raise InvalidOption(
                option,
                name,
                "is not an event",
                "Use names such as PROCESS_STATE_FATAL and TICK_60",
            )
    return names


def socket(option, value):
    match = re.match(r"(?:tcp://[^\s:;#%]+:([0-9]{1,5})|unix:///[^\s;#]+)\Z", text(option, value))
    if match and 0 < int(match.group(1) or 1) < 65536:
        return str(value)
    raise InvalidOption(
        option,
        value,
        "is not a socket",
        "Use tcp://host:port or unix:///absolute/path",
    )


def user(option, value):
    """A user's name or number."""
    return _matching(option, value, _USER, "a user's name or number", "Write it as in /etc/passwd")


def owner(option, value):
    pattern = f"{_USER}(:{_USER})?"
    return _matching(option, value, pattern, "an owner", "Write user or user:group")


def handler(option, value):
    """Python code that supervisord imports, as root."""
    pattern = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
    return _matching(option, value, pattern, "a Python callable", "Write it as module:function")


def _matching(option, value, pattern, what, way_out):
    result = text(option, value)
    if result and not re.fullmatch(pattern, result, re.ASCII):
        raise InvalidOption(option, value, f"is not {what}", way_out)
    return result


def functions(option, value):
    """The Gearman functions that each process of the program serves."""
    names = [
        checked_text(option, scalar(name).strip(), _LONGEST_FUNCTION)
        for name in _items(option, value, "functions")
    ]
    if not all(names):
        raise InvalidOption(
            option, value, "has an empty name", "List the functions that each process serves"
        )
    return names


def release(option, value):
    """{"link", "target", "move"}; whether they are on the host is checked later."""
    if not isinstance(value, Mapping) or not {"link", "target"} <= set(value):
        raise InvalidOption(
            option,
            value,
            "does not name a link and a target",
            "Write 'link: ...' and 'target: ...'",
        )
    unknown = sorted(str(key) for key in set(value) - {"link", "target", "move"})
    if unknown:
        raise InvalidOption(
            option, unknown[0], "is not a key of a release", "Use link, target and move"
        )
    typed = {
        "move": "last",
        **{key: scalar(text) for key, text in value.items() if text is not None},
    }
    for key in ("link", "target"):
        path = typed.get(key, "")
        plain = re.match(r"/[^\s;#\"'%]+\Z", checked_text(f"{option}.{key}", path, _LONGEST_PATH))
        if not plain or path != os.path.normpath(path):
            raise InvalidOption(
                f"{option}.{key}",
                path,
                "is not a plain absolute path",
                "Write it from / on, without blanks, quotes, '%', '..' or a slash at the end",
            )
    if typed["link"] == typed["target"]:
        raise InvalidOption(
            f"{option}.target",
            typed["target"],
            "is the link itself",
            "Name the release's directory",
        )
    if typed["move"] not in ("first", "last"):
        raise InvalidOption(f"{option}.move", typed["move"], "is unknown", "Use first or last")
    return typed


def paths(option, value):
    """Files and directories that are read, such as those of a fingerprint."""
    result = [
        checked_text(option, scalar(path), _LONGEST_PATH)
        for path in (value if isinstance(value, list) else [value])
    ]
    for path in result:
        if not path.startswith("/"):
            raise InvalidOption(option, path, "is not an absolute path", "Write it from / on")
        if os.path.normpath(path).lstrip("/").split("/")[0] in ("", "proc", "sys", "dev", "run"):
            raise InvalidOption(
                option,
                path,
                "is the whole host or no place for code",
                "Name the directory of the code",
            )
    _check_length(option, result, "paths")
    return result


def patterns(option, value):
    """Names as a shell writes them, such as '*.log' and 'storage/*'."""
    names = value if isinstance(value, list) else [value]
    _check_length(option, names, "patterns")
    result = [checked_text(option, scalar(name), _LONGEST_PATH) for name in names]
    if not all(result):
        raise InvalidOption(option, value, "has an empty pattern", "Write one such as '*.log'")
    return result


def _items(option, value, what):
    """Return the items of a list, or of text that separates them by commas."""
    items = value if isinstance(value, list) else scalar(value)[:_LONGEST_TEXT].split(",")
    _check_length(option, items, what)
    return items


def _check_length(option, items, what):
    if len(items) > MOST_ITEMS:
        raise InvalidOption(
            option,
            f"({len(items)} {what})",
            f"is longer than {MOST_ITEMS}, the limit",
            "List fewer",
        )
