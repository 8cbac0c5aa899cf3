# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of the programs' code: the directory that a link such as /srv/app/current leads to.

A program with a release runs from the release's own path, so that a process that restarts by itself
stays on the release of its batch, and new code is a new definition: replaced in the same batches,
taken back in the same way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import processes, trust

VARIABLE = "GEARVISOR_RELEASE"


class Link(NamedTuple):
    """A link to releases: where it led before (None: it was not there) and where it should lead."""

    path: str
    before: str
    after: str
    move: str

    @property
    def changes(self):
        return self.before != self.after


def resolved(option, release, check_mode):
    """Return the Link of a typed release. Raises InvalidOption; in check mode the target may be missing."""
    link, target = release["link"], release["target"]
    real = os.path.realpath(target)
    if not os.path.isdir(real) and not check_mode:
        raise InvalidOption(
            f"{option}.target",
            target,
            "is not a directory on this host",
            "Deploy the release there first",
        )
    if os.path.lexists(link) and not os.path.islink(link):
        raise InvalidOption(
            f"{option}.link",
            link,
            "is not a link",
            f"Move it to a directory of its own, such as {os.path.dirname(link)}/releases/1, and make that the "
            "target",
        )
    before = os.path.realpath(link) if os.path.islink(link) else None
    return Link(link, before, real, release["move"])


def applied(program, link):
    """Return the typed program as it runs from the release itself, or None if it never names the link."""
    pattern = re.compile(rf"(?<![\w./-]){re.escape(link.path)}(?![\w.-])")
    changed = {}
    for option in ("command", "directory"):
        if option in program:
            # In Supervisor's own syntax, unlike a literal environment.
            changed[option] = pattern.sub(
                lambda _match: link.after.replace("%", "%%"), program[option]
            )
    if "environment" in program:
        changed["environment"] = {
            name: pattern.sub(lambda _match: link.after, value)
            for name, value in program["environment"].items()
        }
    if all(program[option] == value for option, value in changed.items()):
        return None
    changed["environment"] = {**changed.get("environment", {}), VARIABLE: link.after}
    return {**program, **changed}


def move(path, target, trusted=frozenset({0})):
    """Make *path* a link to *target*, or nothing for None, in one step.

    Acts as the owner of the directory, who could have done it as well. A directory of root's is
    refused where others than the *trusted* (user ids) could have put it on the way. Raises OSError.
    """
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_way(descriptor, directory, trusted)
        # By descriptor: what the name leads to may be another directory by now.
        with processes.eyes_of_owner(f"/proc/self/fd/{descriptor}"):
            temporary = f".{name[:200]}.gearvisor-new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=descriptor)
            if target is None:
                os.unlink(name, dir_fd=descriptor)
                return
            os.symlink(target, temporary, dir_fd=descriptor)
            os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_way(descriptor, directory, trusted):
    weak = trust.weakness(os.path.abspath(directory), trusted)
    if weak is not None and os.fstat(descriptor).st_uid == 0:
        raise PermissionError(
            errno.EPERM, f"it is root's, and reached by {weak.path}, which {weak.reason}", directory
        )


def move_all(links, trusted_users=(), back=False):
    """Move the links to their releases, or back. Raises GearvisorError."""
    trusted = trust.user_ids(trusted_users)
    for link in links:
        try:
            if link.changes:
                move(link.path, link.before if back else link.after, trusted)
        except OSError as error:
            raise GearvisorError(
                f"The link {link.path} cannot be moved: {error}. Its directory has to be there, and its owner "
                "has to be able to write to it"
            ) from None


def of_process(pid, proc="/proc"):
    """Return the release that the process was started from, or None."""
    value = processes.environment(pid, proc).get(VARIABLE.encode())
    return os.fsdecode(value) if value else None


def by_release(loaded, proc="/proc"):
    """Return {release: [full names]} of the running [Process] that have one."""
    result = {}
    for process in loaded:
        release = of_process(process.pid, proc) if process.pid else None
        if release is not None:
            result.setdefault(release, []).append(process.full_name)
    return result
