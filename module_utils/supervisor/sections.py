# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a program to the sections that run it. All pure.

layout "processes" writes one section per process. Supervisor compares and
restarts whole sections, so this is what lets a fleet scale and roll without
touching the other processes. layout "numprocs" writes Supervisor's compact
form, in which every change restarts all of the program's processes.
"""

from __future__ import annotations

import os.path
import re
from typing import NamedTuple

from ..failure import InvalidOption
from . import commands
from .config_file import environment_text, option_text
from .options import DEFAULTS, KINDS, PARAMETERS, PROGRAM_NAME, SECRETS
from .values import EXPANSIONS, byte_count

# What Supervisor accepts after a "%": "%%", or "%(name)" and a conversion.
# Widths have two digits here: a larger one would fill the memory.
_EXPANSION = re.compile(
    r"%(?:%|\((\w+)\)([-+ #0]{0,5}[0-9]{0,2}(?:\.[0-9]{1,2})?[diouxXeEfFgGrsa]))?"
)
_PER_PROCESS = ("process_num", "program_name")
_PER_SECTION = re.compile(r"%\((?:process_num|program_name|group_name|ENV_)")
_DEVICE = re.compile(
    r"//?(?:dev/(?:stdout|stderr|null|full|console|tty\w*|pts/[0-9]+|fd/[0-9]+)"
    r"|proc/(?:self|thread-self|[0-9]+)/fd/[0-9]+)\Z"
)


class Section(NamedTuple):
    """One [program:x], [eventlistener:x] or [fcgi-program:x]: each is a separate Supervisor group."""

    program: str
    group: str
    options: dict
    kind: str = "program"

    @property
    def title(self):
        return f"{self.kind}:{self.group}"

    @property
    def parameter(self):
        """The module's parameter that this comes from, as errors name it."""
        return f"{PARAMETERS[self.kind]}.{self.program}"


def sections(name, program, layout="processes", kind="program"):
    """Return the program's sections, logs already separated, ready to be rendered.

    An event listener is one section in either layout, because every section gets
    every event; so is an fcgi-program, because its processes share a socket.
    Raises InvalidOption for a "%" that Supervisor cannot expand and for
    process names that are not unique per process.
    """
    where = f"{PARAMETERS[kind]}.{name}"
    layout = layout if kind == "program" else "numprocs"
    program = {option: value for option, value in program.items() if option in KINDS}
    for variable, value in program.get("environment_expanded", {}).items():
        _check_expansions(
            f"{where}.environment_expanded.{variable}", value, layout, shown="(not shown)"
        )
    commands.check(f"{where}.command", program["command"])
    for option, value in program.items():
        if KINDS[option] == "text":
            _check_expansions(f"{where}.{option}", value, layout)
        if option.endswith("_logfile"):
            _check_second_expansion(f"{where}.{option}", value, layout)
        if option == "directory" or option.endswith("_logfile"):
            _check_path(f"{where}.{option}", value)
    program = _with_separate_channels(program)
    count = program.get("numprocs", DEFAULTS["numprocs"])
    if layout == "processes":
        return _one_section_each(name, program, count, where)
    # supervisord does not distinguish an empty group from none, so none is written.
    if count == 0:
        return []
    if count > 1:
        program = _with_separate_processes(_with_process_names(name, program, count, where))
    return [Section(name, name, _texts(where, program), kind)]


def _one_section_each(name, program, count, where):
    first = program.get("numprocs_start", DEFAULTS["numprocs_start"])
    pattern = program.get("process_name", "%(program_name)s_%(process_num)02d")
    if pattern == "%(program_name)s" and count == 1:
        pattern = name
    result = []
    # The first keeps its log's name, so that scaling from or to one process leaves it alone.
    others = _with_separate_processes(program)
    for number in range(first, first + count):
        group = _expand(pattern, name, number)
        if not PROGRAM_NAME.match(group):
            raise InvalidOption(
                f"{where}.process_name",
                pattern,
                f"gives {group!r}, which is not a valid section name",
                "Use letters, digits, '_', '.', '-', %(program_name)s and %(process_num)02d",
            )
        options = {
            option: _expanded(option, value, name, number)
            for option, value in (program if number == first else others).items()
            if option not in ("numprocs", "numprocs_start", "process_name")
        }
        result.append(Section(name, group, _texts(where, options)))
    _check_distinct(where, pattern, [section.group for section in result])
    return result


def _with_process_names(name, program, count, where):
    pattern = program.get("process_name", "%(program_name)s_%(process_num)02d")
    _check_distinct(where, pattern, [_expand(pattern, name, number) for number in range(count)])
    return {**program, "process_name": pattern}


def _check_distinct(where, pattern, names):
    if len(set(names)) < len(names):
        raise InvalidOption(
            f"{where}.process_name",
            pattern,
            f"gives {len(names)} processes one name",
            "Put %(process_num)02d into it, or leave it out",
        )


def _expanded(option, value, name, number):
    if option == "environment_expanded":
        return {variable: _expand(text, name, number) for variable, text in value.items()}
    return _expand(value, name, number) if KINDS[option] == "text" else value


def _texts(where, options):
    texts = {
        option: option_text(f"{where}.{option}", options[option])
        for option in KINDS
        if option in options and option not in SECRETS
    }
    if any(option in options for option in SECRETS):
        texts["environment"] = environment_text(where, options)
    return {option: texts[option] for option in KINDS if option in texts}


# Each process and channel rotates its log by itself, so lines are lost as soon as two of them
# share a rotated file (Supervisor's documentation, "stdout_logfile"). The two functions below give
# each its own.


def _with_separate_channels(program):
    """Make one file for stdout and stderr redirect_stderr, which is the same to the reader."""
    program = dict(program)
    if (
        any(_rotates(program, channel) for channel in ("stdout", "stderr"))
        and is_log_file(program, "stdout")
        and program["stdout_logfile"] == program.get("stderr_logfile")
    ):
        program["redirect_stderr"] = True
    if program.get("redirect_stderr"):
        for option in [option for option in program if option.startswith("stderr_logfile")]:
            del program[option]
    return program


def _with_separate_processes(program):
    """Put the process number before the suffix of each rotated log that does not have it."""
    program = dict(program)
    for channel in ("stdout", "stderr"):
        path = program.get(f"{channel}_logfile", "")
        if (
            _rotates(program, channel)
            and is_log_file(program, channel)
            and "%(process_num)" not in path
        ):
            stem, suffix = os.path.splitext(path)
            program[f"{channel}_logfile"] = f"{stem}_%(process_num)02d{suffix}"
    return program


def _rotates(options, channel):
    size = f"{channel}_logfile_maxbytes"
    return byte_count(options.get(size, DEFAULTS[size])) > 0


def check_shared_logs(all_sections):
    """Refuse two sections with one log file that either rotates. Raises InvalidOption."""
    writer = {}
    for section in all_sections:
        for channel in ("stdout", "stderr"):
            if not is_log_file(section.options, channel):
                continue
            path = section.options[f"{channel}_logfile"]
            if _PER_SECTION.search(path):
                continue
            rotates = _rotates(section.options, channel)
            other, other_rotates = writer.setdefault(path, (section.group, rotates))
            if other != section.group and (rotates or other_rotates):
                raise InvalidOption(
                    f"{section.parameter}.{channel}_logfile",
                    path,
                    f"is a log of {other} too, and rotating a shared file loses lines",
                    f"Give each its own file, or set {channel}_logfile_maxbytes: 0 on both",
                )


def is_log_file(program, channel):
    """Return whether that channel of the program's output goes to a separate file."""
    path = program.get(f"{channel}_logfile", "auto")
    return not _is_no_path(path) and not is_device(path)


def is_device(path):
    """Return whether the log is what supervisord itself has open, or a device, and no file."""
    return _DEVICE.match(os.path.normpath(path)) is not None


def _check_expansions(option, value, layout, shown=None):
    """Refuse what Supervisor cannot expand in *value*; *shown* replaces it in errors."""

    def refuse(problem, way_out):
        raise InvalidOption(option, shown or value, problem, way_out)

    # Supervisor replaces this one in any position, before it reads "%%" as "%".
    if "%%(here)s" in value:
        refuse("holds %%(here)s, which Supervisor replaces even so", "Write the path itself")
    for match in _EXPANSION.finditer(value):
        if match.group() == "%%":
            continue
        expression = match.group(1)
        if match.group() == "%":
            place = "" if shown else f", at {value[match.start() : match.start() + 12]!r}"
            refuse(
                f"holds a '%' that Supervisor cannot expand{place}",
                "Write a literal '%' as '%%'; a width has two digits at most",
            )
        elif expression not in EXPANSIONS and not expression.startswith("ENV_"):
            refuse(
                f"holds the unknown expansion '{expression}'",
                f"Use one of {', '.join(EXPANSIONS)}, or ENV_NAME",
            )
        elif expression == "numprocs" and layout == "processes":
            refuse(
                "uses %(numprocs), so scaling would change every process",
                "Leave it out, or set layout: numprocs",
            )
        try:
            f"%{match.group(2)}" % (0 if expression in ("process_num", "numprocs") else "")
        except (TypeError, ValueError):
            refuse(
                f"expands {match.group()!r}, whose conversion does not fit",
                "Use 'd' for numbers and 's' for everything else",
            )


def _check_second_expansion(option, value, layout):
    """Supervisor expands the names of log files twice, so "%%" is a "%" to the second time."""
    once = _EXPANSION.sub(lambda match: "%" if match.group() == "%%" else "", value)
    try:
        _check_expansions(option, once, layout)
    except InvalidOption:
        raise InvalidOption(
            option,
            value,
            "holds a '%%', which Supervisor expands a second time in the name of a log file",
            "Write a literal '%' as '%%%%' here, or leave it out",
        ) from None


def _check_path(option, value):
    """Refuse a relative path: it would depend on the directory in which supervisord was started."""
    is_log = option.endswith("_logfile")
    if value.startswith("~"):
        raise InvalidOption(
            option,
            value,
            "begins with '~', the home directory of supervisord's user and not of the program's",
            "Write it from / on" + (", such as /var/log/gearman-worker/NAME.log" if is_log else ""),
        )
    if is_log and _is_no_path(value):
        return
    if not value.startswith(("/", "%(")):
        raise InvalidOption(option, value, "is not an absolute path", "Write it from / on")
    if is_log and value.endswith("/"):
        raise InvalidOption(
            option, value, "is a directory", "Name a file in it, such as %(program_name)s.log"
        )
    if is_log and ".." in value.split("/"):
        raise InvalidOption(option, value, "holds '..'", "Write the path without it")


def _is_no_path(log):
    return log.lower() in ("auto", "none", "off", "syslog")


def _expand(value, name, number):
    """Fill in the two expansions that differ between one section per process and numprocs."""
    values = {"process_num": number, "program_name": name}

    def fill(match):
        if match.group(1) not in _PER_PROCESS:
            return match.group()
        return f"%{match.group(2)}" % values[match.group(1)]

    return _EXPANSION.sub(fill, value)
