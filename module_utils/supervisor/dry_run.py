# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets Supervisor's own parser read a fleet's files as they would be, and looks for a second owner."""

from __future__ import annotations

import collections
import inspect
import json
import re

from ..failure import GearvisorError
from . import parser_check

# Where Supervisor's error texts quote an environment= line.
_ENVIRONMENT_IN_ERRORS = (
    re.compile(r"(?<=key/value pairs in value ).*?(?= in section '|$)", re.DOTALL),
    re.compile(r"(?<=Format string ).*(?= for 'environment')", re.DOTALL),
)
# All variables that supervisord has, which hide the one that it lacks.
_AVAILABLE = re.compile(r"\. Available names: .*?(?=( in section '|\Z))", re.DOTALL)
# The sections that Supervisor makes a process group of.
_GROUP_KINDS = ("program", "group", "eventlistener", "fcgi-program")


def owners(where, overlay, missing, users, environment):
    """Return {section: [files that define it]} of the configuration with the files in *overlay*.

    *overlay* is {path: text or None}; *missing* directories and *users* are taken as existing;
    *environment* is supervisord's own. Raises GearvisorError when Supervisor would refuse it.
    """
    request = {
        "config": where.config,
        "overlay": overlay,
        "directories": list(missing),
        "users": list(users),
        "environment": environment,
    }
    rc, out, err = where.run(
        [*_interpreter(where.supervisord), "-c", inspect.getsource(parser_check)],
        data=json.dumps(request),
    )
    if rc != 0:
        raise GearvisorError(
            f"Supervisor's own parser could not be run: {err.strip() or out.strip()}. "
            f"See that {where.supervisord} --version works on the host"
        )
    answer = json.loads(out)
    if answer["error"]:
        raise GearvisorError(_explained(answer["error"], overlay))
    return answer["owners"]


def check_owners(where, new, found):
    """Refuse a group that another file defines, too. *found* is what owners() returned."""
    by_group = collections.defaultdict(list)
    for title, paths in found.items():
        kind, _colon, group = title.partition(":")
        if kind in _GROUP_KINDS:
            by_group[group] += [f"[{title}] in {path}" for path in paths]
    for section in new.values():
        its_files = by_group.get(section.group, [])
        if not its_files:
            raise GearvisorError(
                f"{where.config} does not include the files in {where.directory}, so Supervisor would never "
                f"read them. Add 'files = {where.directory}/*.conf' to its [include]. Nothing was written"
            )
        if len(its_files) > 1:
            raise GearvisorError(
                f"programs: {section.group} would be defined twice, as {' and '.join(its_files)}; Supervisor "
                "mixes the two up silently. Rename the program, or remove the other definition. "
                "Nothing was written"
            )


def rivals(new, found, own):
    """Return {program: {file: [titles]}} of what other files define under the name of a program of this fleet.

    Names are compared without the number of the process, so that mail and mail_00 are the same.
    *own* are the paths of the fleet's files.
    """
    programs = {section.program for section in new.values()}
    result = collections.defaultdict(lambda: collections.defaultdict(list))
    for title, paths in sorted(found.items()):
        kind, _colon, group = title.partition(":")
        name = re.sub(r"_\d{2,}\Z", "", group)
        program = group if group in programs else name
        if kind not in _GROUP_KINDS or program not in programs:
            continue
        for path in paths:
            if path not in own:
                result[program][path].append(title)
    return {program: dict(by_file) for program, by_file in result.items()}


def _interpreter(supervisord):
    """Return the command that runs supervisord's own Python, from its first line."""
    with open(supervisord, "rb") as file:
        first = file.readline().decode(errors="replace").strip()
    return first[2:].split() if first.startswith("#!") else ["/usr/bin/python3"]


def _explained(error, overlay):
    """Return whose file is wrong, without the environment values that Supervisor's text may hold."""
    for shown in _ENVIRONMENT_IN_ERRORS:
        error = shown.sub("(not shown)", error)
    error = _AVAILABLE.sub("", error)
    match = re.search(r"\(file: '([^']+)'\)", error)
    if match and match.group(1) not in overlay:
        return (
            f"{match.group(1)} is broken, and Supervisor reads all of its files or none: {error}. "
            "That file is not managed by Gearvisor: correct or remove it, then run this again. Nothing was "
            "written"
        )
    return f"Supervisor refuses the programs: {error}. Correct that option; nothing was written"
