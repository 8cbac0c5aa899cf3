# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a rollout is: a file that `gearvisor top` and `gearvisor status --workers` show while it runs."""

from __future__ import annotations

import contextlib
import json
import os
import time

from ..host import directories, files, processes

FILE = "rollout.json"


class Progress:
    """Keeps the file; what cannot be written never stops a rollout."""

    def __init__(self, directory, fleet, release=None):
        self._path = os.path.join(directory, FILE)
        self._facts = {
            "version": 1,
            "fleet": fleet,
            "pid": os.getpid(),
            "pid_started": processes.started(os.getpid()),
            "started": round(time.time(), 3),
            "release": release,
            "phase": "rollout",
            "programs": {},
        }

    def __call__(self, program=None, **facts):
        """Note facts of one program (total, left, batch, jobs, failed), or of the whole rollout (phase)."""
        if program is None:
            self._facts.update(facts)
        else:
            self._facts["programs"].setdefault(program, {}).update(facts)
        self._facts["updated"] = round(time.time(), 3)
        with contextlib.suppress(Exception):
            directories.make(
                os.path.dirname(self._path),
                0o755,
                os.geteuid(),
                os.getegid(),
                frozenset({0, os.geteuid()}),
            )
            text = json.dumps(self._facts) + "\n"
            files.write_text(self._path, text, 0o644, os.geteuid(), os.getegid())

    def end(self):
        """Remove the file."""
        remove(os.path.dirname(self._path))


def remove(directory):
    """Remove the file, which may be that of a run that was cut off."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(directory, FILE))
