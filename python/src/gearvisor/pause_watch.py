# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks which functions of a worker are paused on its host: see docs/worker-facts.md."""

from __future__ import annotations

from collections.abc import Iterable

from . import pause

LOOK_EVERY = 1.0  # seconds between looks at the directory


class PauseWatch:
    """The paused ones among the functions that a worker serves, by the files in a directory.

    functions: those that were paused at the last look.
    """

    def __init__(self, directory: str | None, served: Iterable[bytes]) -> None:
        self.functions: frozenset[bytes] = frozenset()
        self._directory = directory
        self._served = frozenset(served)
        self._look_at = 0.0

    def changed(self, now: float) -> bool:
        """Look, if it is time to (`now`: monotonic); return whether other functions are paused.

        While the directory cannot be listed, the functions stay what they were. One that does not
        exist pauses nothing.
        """
        if self._directory is None or now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        try:
            names = pause.paused(self._directory)
        except pause.PauseError:
            return False
        functions = self._served.intersection(
            name.encode(errors="surrogateescape") for name in names
        )
        changed = functions != self.functions
        self.functions = functions
        return changed
