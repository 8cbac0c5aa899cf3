# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which groups a fleet has loaded into supervisord: noted on the host before it acts.

The fleet's files state what is requested; when they are rewritten or gone, this still shows what
belongs to it, so that a rerun ends what an interrupted run was to end.
"""

from __future__ import annotations

import json
import os

from ..host import directories, files
from .sections import Section

DIRECTORY = "/var/lib/gearvisor/fleets"
_VERSION = 1
# What is needed to stop a group gracefully. Not its environment, which may hold secrets.
_KEPT = ("stopsignal", "stopwaitsecs", "stopasgroup", "autostart", "autorestart", "startsecs")


def path(directory, fleet):
    """Return where the fleet's note is."""
    return os.path.join(directory, f"{fleet}.json")


def read(path):
    """Return ({group: Section}, frozenset of groups whose restart was begun) as noted."""
    try:
        noted = json.loads(files.read_text(path) or "{}")
        if noted.get("version") != _VERSION:
            return {}, frozenset()
        sections = {
            group: Section(facts["program"], group, dict(facts["options"]), facts["kind"])
            for group, facts in noted["groups"].items()
        }
        return sections, frozenset(noted.get("restarting", ())) & sections.keys()
    except (ValueError, KeyError, TypeError, AttributeError):
        # Damaged: the files still show most of it.
        return {}, frozenset()


def previous(path):
    """Return {link: the release it led to before} as noted; for a way back by one command."""
    try:
        noted = json.loads(files.read_text(path) or "{}").get("previous", {})
        return {str(link): str(release) for link, release in noted.items()}
    except (ValueError, AttributeError):
        return {}


def write(path, sections, restarting=(), before=None):
    """Note the groups, which of them are about to be restarted, and {link: release before}.

    No groups: the note is removed. *before* None leaves what is noted of links.
    """
    before = previous(path) if before is None else before
    if not sections:
        files.restore_text(path, None, 0o600)
        return
    noted = {
        "version": _VERSION,
        "groups": {
            group: {
                "program": section.program,
                "kind": section.kind,
                "options": {
                    option: text for option, text in section.options.items() if option in _KEPT
                },
            }
            for group, section in sorted(sections.items())
        },
        "restarting": sorted(restarting),
        "previous": before,
    }
    text = json.dumps(noted, indent=1) + "\n"
    if text != files.read_text(path):
        directories.make(os.path.dirname(path), 0o755, os.geteuid(), os.getegid())
        files.write_text(path, text, 0o600, os.geteuid(), os.getegid())
