# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves steps on, round by round, with one look at supervisord's processes a round."""

from __future__ import annotations

import time

from ..failure import GearvisorError
from .rpc import by_group

_ROUND_SECONDS = 0.1
# Up to which share of all groups it is quicker to ask for each of their processes by its name.
_FEW = 0.25


class View:
    """The processes of each group, looked at once a round and only where they are needed.

    supervisord takes almost a millisecond for each process that it is asked about.
    """

    def __init__(self, supervisord, groups):
        """*groups* is {group: [Process]} of all groups, as they are now."""
        self._supervisord = supervisord
        self._groups = groups
        # Groups whose processes were looked at in this round; None for all.
        self._fresh = None
        self._asked = set()
        # Set when a step has failed: nothing new is begun, and nothing is waited for needlessly.
        self.halted = False

    def refresh(self):
        """Begin a round. What was asked for in the last one will be again, so look at that now."""
        asked, self._asked, self._fresh = self._asked, set(), frozenset()
        if asked <= self._groups.keys() and len(asked) <= _FEW * len(self._groups):
            names = [process.full_name for group in asked for process in self._groups[group]]
            found = by_group(self._supervisord.processes_named(names))
            self._groups.update({group: found.get(group, []) for group in asked})
            self._fresh = asked

    def processes(self, group):
        """Return [Process] of the group; [] when it is not loaded."""
        self._asked.add(group)
        if self._fresh is not None and group not in self._fresh:
            self._groups, self._fresh = by_group(self._supervisord.processes()), None
        return self._groups.get(group, [])

    def forget(self, group):
        """Drop what is known of a group that was redefined: its processes may have other names."""
        self._groups.pop(group, None)
        if self._fresh is None:
            self._fresh = self._groups.keys() - {group}
        self._fresh -= {group}


def run(view, steps):
    """Move all generators in *steps* on, round by round, until each is done."""
    for _round in side_by_side(view, steps):
        time.sleep(_ROUND_SECONDS)
        view.refresh()
    if steps:
        view.refresh()


def side_by_side(view, steps):
    """Move the steps on, one round per yield. Raises the first failure, once all have ended."""
    steps, failure = list(steps), None
    while steps:
        going = []
        for step in steps:
            try:
                if next(step, "done") != "done":
                    going.append(step)
            except GearvisorError as error:
                view.halted = True
                failure = failure or error
        steps = going
        if steps:
            yield
    if failure is not None:
        raise failure
