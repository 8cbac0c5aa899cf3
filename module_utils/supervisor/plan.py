# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to happen to which process group. All pure."""

from __future__ import annotations

from typing import NamedTuple

from .options import DEFAULTS
from .rpc import AT_REST, EXITED, RUNNING, STARTING


class Plan(NamedTuple):
    """Group names by what happens to them, each in order; `kept` stay as they are."""

    add: tuple
    remove: tuple
    change: tuple
    restart: tuple
    start: tuple
    kept: tuple

    @property
    def touches_processes(self):
        return bool(self.add or self.remove or self.change or self.restart or self.start)

    def as_result(self):
        """Return the plan under the names of the module's result."""
        names = ("added", "removed", "changed", "restarted", "started", "kept")
        return {name: list(groups) for name, groups in zip(names, self)}

    def lines(self):
        """Return the plan as text lines, one group each, for diffs."""
        verbs = (
            ("start", self.add + self.start),
            ("stop and remove", self.remove),
            ("replace", self.change),
            ("restart by signal", self.restart),
        )
        return [f"{verb}: {group}" for verb, groups in verbs for group in groups]


class State(NamedTuple):
    """What supervisord has loaded now: {group: [Process]} and the groups that differ from disk."""

    groups: dict
    drifted: frozenset = frozenset()


def make_plan(old, new, state, restart_programs=frozenset(), restarting=frozenset()):
    """Return the Plan that leads from what is loaded to *new*.

    *old* and *new* are {group: Section} by our files before and after;
    *restart_programs* are the programs whose code is new though their
    definition is not; *restarting* the groups that an interrupted run was
    to restart. Groups outside old and new belong to others and are
    never in a plan.
    """
    loaded = state.groups
    add, change, restart, start, kept = [], [], [], [], []
    for group, section in new.items():
        if group not in loaded:
            add.append(group)
        elif group in state.drifted or _differs(old.get(group), section):
            change.append(group)
        elif group in restarting or (
            section.program in restart_programs and _is_wanted(section.options, loaded[group])
        ):
            restart.append(group)
        elif wants_start(section.options, loaded[group]):
            start.append(group)
        else:
            kept.append(group)
    remove = [group for group in old if group in loaded and group not in new]
    return Plan(*(tuple(groups) for groups in (add, remove, change, restart, start, kept)))


def confirmed(decided, delta, old, new):
    """Return the Plan with only those changes that supervisord itself sees.

    *delta* is what it reports after it has read the new files. A file that was
    edited by hand and never loaded differs from the new one though what runs
    does not; replacing that would interrupt a process for nothing.
    """
    real = [
        group
        for group in decided.change
        if group in delta.changed or _log_became_automatic(old.get(group), new[group])
    ]
    spared = [group for group in decided.change if group not in real]
    return decided._replace(change=tuple(real), kept=decided.kept + tuple(spared))


def _log_became_automatic(before, after):
    """Return whether a log path was dropped, which supervisord does not count as a change.

    Its comparison skips options whose new value is automatic (ProcessConfig.__eq__ in
    supervisor/options.py).
    """
    logs = ("stdout_logfile", "stderr_logfile")
    return before is not None and any(
        _is_automatic(after, log) and not _is_automatic(before, log) for log in logs
    )


def _is_automatic(section, log):
    return section.options.get(log, "AUTO").upper() == "AUTO"


def is_true(options, name):
    """Return a boolean option of a rendered section."""
    return options.get(name, str(DEFAULTS[name])).lower() in ("true", "yes", "on", "1")


def seconds(options, name):
    """Return an integer option of a rendered section; a hand-damaged one counts as not given."""
    text = str(options.get(name, ""))
    return int(text) if text.isdecimal() else DEFAULTS[name]


def finishes(options):
    """Return whether a program of this rendered section may end by itself and stay so."""
    return options.get("autorestart", DEFAULTS["autorestart"]).lower() != "true"


def wants_start(options, processes):
    """Return whether a group that should run does not.

    A program that has finished as it should (EXITED, without autorestart=true) is left.
    """
    if not is_true(options, "autostart"):
        return False
    fine = {RUNNING, STARTING, EXITED} if finishes(options) else {RUNNING, STARTING}
    return any(process.state not in fine for process in processes)


def should_be_up(options, processes):
    """Return whether a group counts as unavailable when it is not RUNNING."""
    if not is_true(options, "autostart"):
        return False
    return not (
        finishes(options) and processes and all(process.state == EXITED for process in processes)
    )


def _is_wanted(options, processes):
    """Return whether a group runs, or should: a stopped one without autostart is left alone."""
    return is_true(options, "autostart") or any(
        process.state not in AT_REST for process in processes
    )


def next_batch(waiting, processes, batch, max_unavailable):
    """Return which of *waiting* (groups of one program) may be taken down now.

    *processes* is {group: [Process]} of the program's groups that should be up. At most *batch*
    groups go at a time, and never so many that more than *max_unavailable* of
    the program's groups are down; a group that is down already costs nothing.
    """
    down = {group for group, members in processes.items() if not _is_up(members)}
    waiting = sorted(waiting, key=lambda group: group not in down)
    room = max_unavailable - len(down)
    chosen = []
    for group in waiting[:batch]:
        if group not in down:
            if room <= 0:
                break
            room -= 1
        chosen.append(group)
    return chosen


def share(text, count):
    """Return how many of *count* processes a batch has: a number, or a share such as "25%"; 1 at least."""
    text = str(text)
    number = count * int(text[:-1]) // 100 if text.endswith("%") else int(text)
    return max(1, number)


def _is_up(processes):
    return bool(processes) and all(process.state == RUNNING for process in processes)


def _differs(old, new):
    """Whether the definition changed; of a group that is only noted, supervisord itself knows."""
    return old is None or (old.options != new.options and "command" in old.options)
