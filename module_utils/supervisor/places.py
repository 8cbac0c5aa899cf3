# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directories that workers write to: status files, failed jobs; and paused functions.

docs/worker-facts.md describes their content. /run is empty after a boot, so a file for
systemd-tmpfiles recreates its part; without systemd the event listener of supervisor_daemon reads it.
"""

from __future__ import annotations

import os
import pwd

from ..failure import GearvisorError

GROUP = "gearvisor"
FAILED = "/var/lib/gearvisor/failed"
TMPFILES = "/etc/tmpfiles.d"
_OPEN, _OF_USER = 0o755, 0o2750


def users_of(sections):
    """Return the names of the users that the sections run as, sorted."""
    return sorted({_name(section.options.get("user", "root")) for section in sections})


def _name(user):
    try:
        return pwd.getpwuid(int(user)).pw_name if user.isdigit() else user
    except KeyError:
        return user


def want(changes, where, fleet, users):
    """Add the directories of *users*, and the file that recreates them, to the ChangeSet."""
    root = os.geteuid(), os.getegid()
    for path in () if not users else (where.runtime, where.failed, where.paused):
        changes.want_directory(path, _OPEN, *root)
    for user in users:
        for path in (where.runtime, where.failed):
            changes.want_directory(os.path.join(path, user), _OF_USER, user, where.group)
    file = os.path.join(where.tmpfiles, f"gearvisor-{fleet}.conf")
    if not users:
        changes.want(file, None)
        return
    lines = [f"d {where.runtime} {_OPEN:04o} root root -"]
    lines += [f"d {where.runtime}/{user} {_OF_USER:04o} {user} {where.group} -" for user in users]
    text = (
        "# Written by Ansible (Gearvisor). Changes made here are lost.\n" + "\n".join(lines) + "\n"
    )
    changes.want(file, text, 0o644, *root)


def make_group(run, group):
    """Create the group whose members may read what workers write. Raises GearvisorError."""
    rc, out, err = run(["groupadd", "--system", "--force", group])
    if rc != 0:
        raise GearvisorError(
            f"The group {group} cannot be created: {(err or out).strip()}. Create it first"
        )
