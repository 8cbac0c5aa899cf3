# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run finds beside what it was asked for: programs that run on, orphans, contradictions."""

from __future__ import annotations

import re

from ..host.files import read_text
from . import plan, program_files
from .program_files import sections_in
from .scripts import end_orphans

_ORPHAN_SECONDS = 5


def unlisted(request, where, programs, old, state):
    """Return {group: Section} of loaded groups of this fleet that are no longer listed and that stay.

    Without purge a program that is not listed any more keeps running. Its groups that go because it has
    fewer processes now are not among them.
    """
    if request.purge:
        return {}
    return {
        group: section
        for group, section in {**sections_in(program_files.own(request, where)), **old}.items()
        if group in state.groups and section.program not in programs
    }


def orphans(where, supervisord, check_mode):
    """Ask what a former supervisord has left behind to leave; return warnings that name it."""
    if supervisord is None:
        return []
    found = end_orphans.find(supervisord.pid(), supervisord.path)
    if not found:
        return []
    names = end_orphans.named(found)
    if check_mode:
        return [f"A former supervisord has left these behind, beside those that run now: {names}"]
    signals = end_orphans.stop_signals(end_orphans.configuration(where.config))
    end_orphans.ask_to_leave(found, signals)
    left = end_orphans.wait(found, _ORPHAN_SECONDS)
    still = (
        f". Of them, these finish their jobs first: pid {', '.join(map(str, left))}" if left else ""
    )
    return [
        f"A former supervisord had left these behind, and they were asked to leave: {names}{still}"
    ]


def contradictions(where, its_sections):
    """Return warnings about jobs that a stop of supervisord would cut, under Gearvisor's systemd drop-in."""
    found = re.search(r"^TimeoutStopSec=(\d+)$", read_text(where.drop_in) or "", re.MULTILINE)
    if not found:
        return []
    limit = int(found.group(1))
    longest = {}
    for section in its_sections:
        if plan.seconds(section.options, "stopwaitsecs") > limit:
            longest[section.parameter] = plan.seconds(section.options, "stopwaitsecs")
    return [
        f"{option}.stopwaitsecs: {seconds} is more than the {limit} s after which systemd kills everything "
        "when supervisord stops, as at a reboot. Raise supervisor_stop_timeout (stop_timeout of "
        "supervisor_daemon) above it"
        for option, seconds in longest.items()
    ]


def about_others(drifted, noted, old, new, unlisted):
    """Return warnings about groups that are left alone."""
    warnings = []
    foreign = sorted(drifted - set(noted) - set(old) - set(new) - set(unlisted))
    if foreign:
        warnings.append(f"Edits of others are pending and were left alone: {', '.join(foreign)}")
    names = sorted({section.program for section in unlisted.values()})
    if names:
        warnings.append(
            f"These programs of the fleet are no longer listed and run on: {', '.join(names)}. If one was "
            "renamed, it now runs twice. Set purge: true to stop and remove them"
        )
    return warnings
