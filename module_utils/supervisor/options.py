# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a Supervisor program, typed.

Supervisor ignores an option it does not know and reads some values in
surprising ways, so names and types are settled here, before its own parser
sees anything. Source: Supervisor's documentation, "[program:x] Section
Settings", and its datatypes as of 4.2.5 and 4.3.0.
"""

from __future__ import annotations

import difflib
import os.path
import re
import signal
from collections.abc import Mapping

from ..failure import InvalidOption

PROGRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")

# In the order in which they are written.
KINDS = {
    "command": "text",
    "process_name": "text",
    "numprocs": "count",
    "numprocs_start": "count",
    "priority": "integer",
    "autostart": "boolean",
    "startsecs": "count",
    "startretries": "count",
    "autorestart": "autorestart",
    "exitcodes": "exitcodes",
    "stopsignal": "signal",
    "stopwaitsecs": "count",
    "stopasgroup": "boolean",
    "killasgroup": "boolean",
    "user": "text",
    "directory": "text",
    "umask": "octal",
    "environment": "environment",
    "redirect_stderr": "boolean",
    "stdout_logfile": "text",
    "stdout_logfile_maxbytes": "bytes",
    "stdout_logfile_backups": "count",
    "stdout_capture_maxbytes": "bytes",
    "stdout_events_enabled": "boolean",
    "stdout_syslog": "boolean",
    "stderr_logfile": "text",
    "stderr_logfile_maxbytes": "bytes",
    "stderr_logfile_backups": "count",
    "stderr_capture_maxbytes": "bytes",
    "stderr_events_enabled": "boolean",
    "stderr_syslog": "boolean",
    "serverurl": "text",
    "events": "events",
    "buffer_size": "positive",
    "result_handler": "text",
    "socket": "socket",
    "socket_owner": "text",
    "socket_mode": "octal",
    "socket_backlog": "positive",
}

# Keys of a program that are Gearvisor's, not Supervisor's: no section has them.
OURS = {
    "functions": "functions",
    "release": "release",
    "adopt": "boolean",
}

_EVENT_LISTENER_ONLY = {"events", "buffer_size", "result_handler"}
_FCGI_PROGRAM_ONLY = {"socket", "socket_owner", "socket_mode", "socket_backlog"}
_COMMON = [option for option in KINDS if option not in _EVENT_LISTENER_ONLY | _FCGI_PROGRAM_ONLY]

# What each kind of section takes, in the order in which it is written. An event listener talks to
# supervisord on its standard output, so its errors cannot go there.
OPTIONS = {
    "program": tuple(_COMMON),
    "eventlistener": tuple(
        option for option in KINDS if option not in _FCGI_PROGRAM_ONLY | {"redirect_stderr"}
    ),
    "fcgi-program": tuple(option for option in KINDS if option not in _EVENT_LISTENER_ONLY),
}
REQUIRED = {
    "program": ("command",),
    "eventlistener": ("command", "events"),
    "fcgi-program": ("command", "socket"),
}
# The module's parameter that takes each kind.
PARAMETERS = {
    "program": "programs",
    "eventlistener": "event_listeners",
    "fcgi-program": "fcgi_programs",
}

# Supervisor's own defaults, for the options that our decisions look at.
DEFAULTS = {
    "numprocs": 1,
    "numprocs_start": 0,
    "autostart": True,
    "autorestart": "unexpected",
    "startsecs": 1,
    "startretries": 3,
    "stopasgroup": False,
    "stopsignal": "TERM",
    "stopwaitsecs": 10,
    "redirect_stderr": False,
    "stdout_logfile_maxbytes": "50MB",
    "stderr_logfile_maxbytes": "50MB",
}

_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_BYTES = re.compile(r"\d+ ?(KB|MB|GB)?\Z", re.IGNORECASE)
_BYTE_UNITS = {"": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def typed_program(name, given, defaults=None, kind="program"):
    """Return the program's options with each value in its type; None means "not given".

    *kind* is that of its section, a key of OPTIONS. *defaults* are the typed
    options of programs that do not set them. An environment is merged by
    variable; a default redirect_stderr does not apply to a program with a log
    of its own for errors.
    Raises InvalidOption for a bad name, an unknown option, or a value that
    Supervisor would refuse or silently misread.
    """
    where = f"{PARAMETERS[kind]}.{name}"
    if not PROGRAM_NAME.match(name):
        raise InvalidOption(
            PARAMETERS[kind],
            name,
            "is no usable program name",
            "Use letters, digits, '_', '.' and '-', beginning with a letter or digit: "
            "the name becomes a file name and a section name",
        )
    own = typed_options(where, given, kind)
    program = {**(defaults or {}), **own}
    if "environment" in own:
        program["environment"] = {**(defaults or {}).get("environment", {}), **own["environment"]}
    if "stderr_logfile" in own and "redirect_stderr" not in own:
        program.pop("redirect_stderr", None)
    for option in REQUIRED[kind]:
        if not program.get(option):
            raise InvalidOption(
                f"{where}.{option}",
                program.get(option, ""),
                "is missing",
                _WHAT_IS_REQUIRED[option],
            )
    return {option: program[option] for option in (*OPTIONS[kind], *OURS) if option in program}


_WHAT_IS_REQUIRED = {
    "command": "Give the command line of the process, with an absolute path",
    "events": "List what it listens to, such as PROCESS_STATE_FATAL",
    "socket": "Give the socket that its processes share, such as unix:///run/app.sock",
}


def typed_options(where, given, kind="program"):
    """Return the options in *given* with each value in its type; *where* names them in errors."""
    if not isinstance(given, Mapping):
        # What should have been options may hold secrets.
        shown = None if given is None else "(not shown)"
        raise InvalidOption(
            where, shown, "is no mapping of options", "Write 'command: ...' below it"
        )
    typed = {}
    for option, value in given.items():
        if option not in OPTIONS[kind] and not (kind == "program" and option in OURS):
            # Its value is not shown: it may be a misspelt environment.
            raise InvalidOption(
                where, option, f"is no option of a Supervisor {kind}", _hint(option, kind)
            )
        if value is not None:
            kind_of_value = KINDS.get(option) or OURS[option]
            typed[option] = _TYPES[kind_of_value](f"{where}.{option}", value)
            if typed[option] == "" and option != "command":
                raise InvalidOption(
                    f"{where}.{option}", value, "is empty", "Give it a value, or leave it out"
                )
    return typed


def byte_count(text):
    """Return a size such as "1MB" in bytes; "0" means a log that is never rotated."""
    digits = re.match(r"\d+", text).group()
    return int(digits) * _BYTE_UNITS[text[len(digits) :].strip().upper()]


def _hint(option, kind):
    close = difflib.get_close_matches(option, OPTIONS[kind], n=1)
    meant = f"Did you mean '{close[0]}'? " if close else ""
    return f"{meant}The options are: {', '.join(OPTIONS[kind])}"


def _text(option, value):
    if isinstance(value, (dict, list, bool)):
        raise InvalidOption(option, value, "is no text", "Write it as one quoted string")
    text = str(value)
    if re.search(r"[\n\r\0]", text):
        raise InvalidOption(
            option,
            value,
            "holds a line break, which would begin another line of the configuration",
            "Write it on one line; in YAML, fold a long one with '>-'",
        )
    if re.search(r"\s[;#]", text):
        raise InvalidOption(
            option,
            value,
            "holds white space followed by ';' or '#', where Supervisor begins a comment, in quotes too",
            "Leave out the space, or move the command into a script",
        )
    return text.strip()


def _boolean(option, value):
    if isinstance(value, bool):
        return value
    if str(value).lower() in _BOOLEANS:
        return _BOOLEANS[str(value).lower()]
    raise InvalidOption(option, value, "is neither true nor false", "Write true or false")


def _integer(option, value):
    if not isinstance(value, bool) and re.match(r"-?\d+\Z", str(value).strip()):
        return int(value)
    raise InvalidOption(option, value, "is no whole number", "Write digits only, without a unit")


def _count(option, value):
    number = _integer(option, value)
    if number < 0:
        raise InvalidOption(option, value, "is below zero", "Use 0 or more")
    return number


def _positive(option, value):
    number = _integer(option, value)
    if number < 1:
        raise InvalidOption(option, value, "is below 1", "Use 1 or more")
    return number


def _events(option, value):
    names = value if isinstance(value, list) else str(value).split(",")
    names = [str(name).strip() for name in names]
    for name in names:
        if not re.match(r"[A-Z][A-Z0-9_]*\Z", name):
            raise InvalidOption(
                option, name, "is no event", "Use names such as PROCESS_STATE_FATAL and TICK_60"
            )
    return names


def _socket(option, value):
    if re.match(r"(tcp://[^\s:;#]+:\d+|unix:///[^\s;#]+)\Z", str(value)):
        return str(value)
    raise InvalidOption(
        option, value, "is no socket", "Use tcp://host:port or unix:///absolute/path"
    )


def _autorestart(option, value):
    if str(value).lower() == "unexpected":
        return "unexpected"
    try:
        return _boolean(option, value)
    except InvalidOption:
        raise InvalidOption(
            option, value, "is not one of Supervisor's three", "Use true, false or unexpected"
        ) from None


def _exitcodes(option, value):
    codes = value if isinstance(value, list) else str(value).split(",")
    numbers = [_count(option, code) for code in codes if str(code).strip()]
    if any(number > 255 for number in numbers):
        raise InvalidOption(option, value, "holds a code above 255", "Use a list of 0 to 255")
    return numbers


def _signal(option, value):
    name = str(value).upper()
    name = name[3:] if name.startswith("SIG") else name
    if name.isdecimal():
        known = int(name) in {int(item) for item in signal.Signals}
    else:
        known = hasattr(signal.Signals, "SIG" + name)
    if not known:
        raise InvalidOption(
            option, value, "is no signal", "Use TERM, INT, HUP, QUIT, KILL, USR1 or USR2"
        )
    return name


def _octal(option, value):
    if isinstance(value, str) and re.match(r"0?[0-7]{1,3}\Z", value):
        return value
    raise InvalidOption(
        option,
        value,
        "is no quoted octal mode",
        "Quote it, as in umask: '027': YAML reads 027 as 23",
    )


def _bytes(option, value):
    if not isinstance(value, bool) and _BYTES.match(str(value)):
        return str(value)
    raise InvalidOption(
        option, value, "is no size", "Use digits, alone or followed by KB, MB or GB"
    )


def _environment(option, value):
    if not isinstance(value, dict):
        raise InvalidOption(
            option,
            "(not shown)",
            "is no mapping of names to values",
            "Write 'environment:' and below it one 'NAME: value' a line; quoting is done for you",
        )
    for name in value:
        if not _ENVIRONMENT_NAME.match(str(name)):
            raise InvalidOption(
                option, name, "is no name of an environment variable", "Use letters, digits and '_'"
            )
    return {str(name): _environment_value(value[name]) for name in sorted(value)}


def _environment_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _functions(option, value):
    names = value if isinstance(value, list) else str(value).split(",")
    names = [str(name).strip() for name in names]
    if not all(names):
        raise InvalidOption(
            option, value, "has an empty name", "List the functions that each process serves"
        )
    return names


def _release(option, value):
    """Return {"link", "target", "move"}; whether they are on this host is checked later."""
    if not isinstance(value, Mapping) or not {"link", "target"} <= set(value):
        raise InvalidOption(
            option,
            value,
            "does not name a link and a target",
            "Write 'link: ...' and 'target: ...'",
        )
    unknown = sorted(set(value) - {"link", "target", "move"})
    if unknown:
        raise InvalidOption(
            option, unknown[0], "is not a key of a release", "Use link, target and move"
        )
    typed = {"move": "last", **{key: str(text) for key, text in value.items() if text is not None}}
    for key in ("link", "target"):
        path = typed.get(key, "")
        if not re.match(r"/[^\0\n\r\s;#\"']+\Z", path) or path != os.path.normpath(path):
            raise InvalidOption(
                f"{option}.{key}",
                path,
                "is not a plain absolute path",
                "Write it from / on, without blanks, quotes, '..' or a slash at the end",
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


_TYPES = {
    "functions": _functions,
    "release": _release,
    "text": _text,
    "boolean": _boolean,
    "integer": _integer,
    "count": _count,
    "positive": _positive,
    "events": _events,
    "socket": _socket,
    "autorestart": _autorestart,
    "exitcodes": _exitcodes,
    "signal": _signal,
    "octal": _octal,
    "bytes": _bytes,
    "environment": _environment,
}
