# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's files: what they are now, what they must be, and which files of others are in the way."""

from __future__ import annotations

import configparser
import glob
import os
import types
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host.files import read_text
from . import config_file, dry_run, rpc, sections


class Files(NamedTuple):
    """The fleet's files: {path: text}; None is a file that does not exist or must go.

    *adopted*: {path: text} of others' files that this fleet takes over.
    """

    before: dict
    after: dict
    adopted: dict = types.MappingProxyType({})

    def changed(self):
        return {path: new for path, new in self.after.items() if new != self.before.get(path)}

    def changed_definitions(self):
        """Whether more than the fingerprints changes."""
        parsed = (
            sections_in({p: t for p, t in texts.items() if t})
            for texts in (self.before, self.after)
        )
        before, after = parsed
        return before != after


def own(request, where):
    """Return {path: text} of all files of the fleet that are there."""
    found = {
        path: _own_text(path, request.fleet)
        for path in sorted(glob.glob(os.path.join(where.directory, "*.conf")))
    }
    return {path: text for path, text in found.items() if text is not None}


def wanted(request, where, fleet, fingerprints):
    """Return the Files of a fleet.Wanted; refuses a path that belongs to others, unless it is adopted."""
    before = own(request, where)
    after, adopted = {}, {}
    for name, its_sections in fleet.by_program.items():
        program = fleet.programs[name][1]
        path = os.path.join(where.directory, f"{name}.conf")
        if path not in before and os.path.lexists(path):
            if not program.get("adopt"):
                raise InvalidOption(
                    "programs",
                    name,
                    f"would replace {path}, which this fleet ({request.fleet}) did not write",
                    "Set 'adopt: true' for it to take that file's programs over, move that file away once its "
                    "programs are stopped, or choose another name",
                )
            before[path] = adopted[path] = read_text(path)
        after[path] = config_file.render_file(
            request.fleet,
            {section.title: section.options for section in its_sections},
            # New code of a release is a new definition.
            None if program.get("release") else fingerprints[name],
        )
    leftovers = {path: None for path in before if path not in after} if request.purge else {}
    kept = {path for path in before if path in after or path in leftovers}
    return Files({path: before[path] for path in sorted(kept)}, {**after, **leftovers}, adopted)


def checked(request, where, wanted, files, missing, new_users, supervisord, check_mode):
    """Let Supervisor's own parser read the files; return Files with what is adopted. Raises GearvisorError."""
    new = wanted.sections
    users = new_users
    if check_mode:
        users = [section.options["user"] for section in new.values() if "user" in section.options]
    environment = rpc.environment(supervisord)
    found = dry_run.owners(where, files.after, missing, users, environment)
    ours = {*files.after, *own(request, where)}
    rivals = dry_run.rivals(new, found, ours)
    before, after, adopted = dict(files.before), dict(files.after), dict(files.adopted)
    for program, by_file in rivals.items():
        if wanted.programs[program][1].get("adopt"):
            for path, titles in by_file.items():
                _check_adoptable(program, path, titles)
                before[path] = adopted[path] = read_text(path)
                after[path] = None
    files = Files(before, after, adopted)
    if adopted:
        found = dry_run.owners(where, files.after, missing, users, environment)
    dry_run.check_owners(where, new, found)
    for program, by_file in rivals.items():
        if not wanted.programs[program][1].get("adopt"):
            _refuse_rival(program, by_file)
    return files


def _refuse_rival(name, by_file):
    path, titles = next(iter(by_file.items()))
    raise GearvisorError(
        f"programs.{name}: {path} defines it too, as {' and '.join(f'[{title}]' for title in titles)}, so two "
        "sets of its processes would run. Rename the program, remove that file once its programs are "
        "stopped, or set 'adopt: true' to take them over. Nothing was written"
    )


def _check_adoptable(name, path, titles):
    """Refuse to take over a file that has more than the program."""
    others = sorted(set(config_file.parse_sections(read_text(path) or "")) - set(titles))
    if others:
        raise GearvisorError(
            f"programs.{name}.adopt: {path} also has {', '.join(f'[{other}]' for other in others)}, which would "
            "go with it. Move that to a file of its own first. Nothing was written"
        )


def _own_text(path, fleet):
    try:
        found = read_text(path)
    except (UnicodeDecodeError, OSError):
        return None
    return found if found is not None and config_file.fleet_of(found) == fleet else None


def sections_in(files):
    """Return {group: Section} of rendered files; a hand-damaged file counts as empty."""
    result = {}
    for path, content in files.items():
        try:
            parsed = config_file.parse_sections(content)
        except configparser.Error:
            continue
        program = os.path.basename(path)[: -len(".conf")]
        for title, values in parsed.items():
            kind, _colon, group = title.partition(":")
            result[group] = sections.Section(program, group, values, kind)
    return result
