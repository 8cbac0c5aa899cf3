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
import json
import re
from collections.abc import Mapping

from ..failure import InvalidOption
from . import environment, values
from .wrong_names import RIGHT_NAMES, WITHOUT_EQUIVALENT

# It is part of file names, which have 255 bytes at most.
PROGRAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")

# In the order in which they are written.
KINDS = {
    "command": "text",
    "process_name": "text",
    "numprocs": "number",
    "numprocs_start": "number",
    "priority": "number",
    "autostart": "boolean",
    "startsecs": "number",
    "startretries": "number",
    "autorestart": "autorestart",
    "exitcodes": "exitcodes",
    "stopsignal": "signal",
    "stopwaitsecs": "number",
    "stopasgroup": "boolean",
    "killasgroup": "boolean",
    "user": "user",
    "directory": "text",
    "umask": "octal",
    "environment": "environment",
    # Not Supervisor's: written into its environment= as well, with expansions.
    "environment_expanded": "environment_expanded",
    "redirect_stderr": "boolean",
    "stdout_logfile": "text",
    "stdout_logfile_maxbytes": "bytes",
    "stdout_logfile_backups": "number",
    "stdout_capture_maxbytes": "bytes",
    "stdout_events_enabled": "boolean",
    "stdout_syslog": "boolean",
    "stderr_logfile": "text",
    "stderr_logfile_maxbytes": "bytes",
    "stderr_logfile_backups": "number",
    "stderr_capture_maxbytes": "bytes",
    "stderr_events_enabled": "boolean",
    "stderr_syslog": "boolean",
    "serverurl": "text",
    "events": "events",
    "buffer_size": "number",
    "result_handler": "handler",
    "socket": "socket",
    "socket_owner": "owner",
    "socket_mode": "octal",
    "socket_backlog": "number",
}
# Their values are never shown.
SECRETS = ("environment", "environment_expanded")

# Keys of a program that are Gearvisor's, not Supervisor's: no section has them.
OURS = {
    "functions": "functions",
    "fingerprint": "paths",
    "fingerprint_exclude": "patterns",
    "release": "release",
    "adopt": "boolean",
}

_LOG_SIZE = (0, 2**40, "1024GB, more than a log directory has")
_CAPTURE_SIZE = (0, 2**30, "1GB, because supervisord holds it in memory")
_BACKUPS = (0, 1000, "because supervisord renames them one by one while all else waits")
# Lowest, highest, and where the limit comes from.
BOUNDS = {
    "numprocs": (
        0,
        2000,
        "because one thread of supervisord starts and polls them all, with five open files for each",
    ),
    "numprocs_start": (0, 1_000_000, "more than any port or shard number"),
    "priority": (-1_000_000, 1_000_000, "the limit of either side"),
    "startsecs": (0, 86_400, "a day"),
    "startretries": (0, 1_000_000, "which is years, because each retry waits a second longer"),
    "stopwaitsecs": (0, 604_800, "a week"),
    "stdout_logfile_maxbytes": _LOG_SIZE,
    "stdout_logfile_backups": _BACKUPS,
    "stdout_capture_maxbytes": _CAPTURE_SIZE,
    "stderr_logfile_maxbytes": _LOG_SIZE,
    "stderr_logfile_backups": _BACKUPS,
    "stderr_capture_maxbytes": _CAPTURE_SIZE,
    "buffer_size": (1, 100_000, "because supervisord holds these events in memory"),
    "socket_backlog": (1, 65_535, "the highest that Supervisor accepts"),
}
# All programs of one fleet together.
_MOST_PROCESSES = 5000

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


def typed_programs(given, defaults=None):
    """Return {name: (kind, typed options)} of all programs of a fleet.

    *given* is {module parameter: programs}, each a mapping by name or a list
    of mappings with a name. *defaults* are options of programs that do not set
    them. Raises InvalidOption.
    """
    defaults = typed_options("defaults", defaults or {})
    result = {}
    for kind, parameter in PARAMETERS.items():
        for name, options in sorted(by_name(parameter, given[parameter]).items()):
            if name in result:
                raise InvalidOption(
                    parameter, name, "is the name of another program, too", "Choose another name"
                )
            program = typed_program(name, options, defaults if kind == "program" else None, kind)
            result[name] = kind, program
    processes = sum(program.get("numprocs", 1) for _kind, program in result.values())
    if processes > _MOST_PROCESSES:
        raise InvalidOption(
            "numprocs",
            processes,
            f"is the sum over all programs, and one supervisord runs {_MOST_PROCESSES} at most",
            "Use fewer processes, or more hosts",
        )
    return result


def by_name(parameter, given):
    """Return {name: options} of a mapping by name, or of a list of mappings with a name.

    Raises InvalidOption, which shows no values: they may be secrets.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    if isinstance(given, Mapping):
        return {str(name): options for name, options in given.items()}
    if not isinstance(given, list):
        raise InvalidOption(
            parameter,
            "(not shown)",
            "is neither a mapping of programs by name nor a list of programs",
            "Write the name and below it 'command: ...', or '- name: ...' and 'command: ...'",
        )
    result = {}
    for number, options in enumerate(given, 1):
        if not isinstance(options, Mapping) or options.get("name") in (None, ""):
            raise InvalidOption(
                parameter,
                f"(number {number} of the list)",
                "has no name",
                "Write '- name: ...' and below it 'command: ...'",
            )
        name = str(options["name"])
        if name in result:
            raise InvalidOption(
                parameter, name, "is the name of two programs of the list", "Rename one of them"
            )
        result[name] = {option: value for option, value in options.items() if option != "name"}
    return result


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
            "is not a usable program name",
            "Use letters, digits, '_', '.' and '-', beginning with a letter or digit, at most 100: "
            "the name becomes a file name and a section name",
        )
    own = typed_options(where, given, kind)
    program = {**(defaults or {}), **own, **_merged_environment(where, defaults or {}, own)}
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


def _merged_environment(where, defaults, own):
    """Return both kinds of environment; of a variable that both have, the program's own counts."""
    both = set(own.get("environment", ())) & set(own.get("environment_expanded", ()))
    if both:
        raise InvalidOption(
            f"{where}.environment_expanded",
            min(both),
            "is in environment, too",
            "Keep one of them",
        )
    merged = {}
    for option, other in (SECRETS, SECRETS[::-1]):
        inherited = {
            name: value
            for name, value in defaults.get(option, {}).items()
            if name not in own.get(other, {})
        }
        if inherited or option in own:
            merged[option] = {**inherited, **own.get(option, {})}
        elif option in defaults:
            merged[option] = {}
    return merged


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
            where, shown, "is not a mapping of options", "Write 'command: ...' below it"
        )
    typed = {}
    for option, value in given.items():
        if option not in OPTIONS[kind] and not (kind == "program" and option in OURS):
            # Its value is not shown: it may be a misspelt environment.
            raise InvalidOption(
                where,
                option,
                f"is not an option of a Supervisor {kind}",
                _hint(option, kind),
            )
        if value is not None:
            check = _TYPES[KINDS.get(option) or OURS[option]]
            typed[option] = check(f"{where}.{option}", value, *BOUNDS.get(option, ()))
            if typed[option] == "" and option != "command":
                raise InvalidOption(
                    f"{where}.{option}", value, "is empty", "Give it a value, or leave it out"
                )
    return typed


def _hint(option, kind):
    known = (*OPTIONS[kind], *(OURS if kind == "program" else ()))
    plain = re.sub("[-_ ]", "", str(option)[:100].lower())
    plain_names = {name.replace("_", ""): name for name in known}
    near = difflib.get_close_matches(plain, plain_names, n=1)
    close = RIGHT_NAMES.get(plain) or (plain_names[near[0]] if near else None)
    meant = f"Did you mean '{close}'? " if close in known else ""
    if plain in WITHOUT_EQUIVALENT:
        meant = WITHOUT_EQUIVALENT[plain] + ". "
    return f"{meant}The options are: {', '.join(known)}"


_TYPES = {
    "text": values.text,
    "number": values.number,
    "boolean": values.boolean,
    "autorestart": values.autorestart,
    "exitcodes": values.exit_codes,
    "signal": values.signal_name,
    "user": values.user,
    "octal": values.octal,
    "bytes": values.byte_size,
    "environment": environment.literal,
    "environment_expanded": environment.expanded,
    "events": values.events,
    "handler": values.handler,
    "socket": values.socket,
    "owner": values.owner,
    "functions": values.functions,
    "release": values.release,
    "paths": values.paths,
    "patterns": values.patterns,
}
