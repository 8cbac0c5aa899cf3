# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes back what interrupted runs have left on a host: what every module does before its own work."""

from __future__ import annotations

from .host import changes, directories, files, journal, packages, processes, temporary


def _open_job_server(host, facts):
    # Imported when it is needed, which is seldom: Python compiles what a module imports at each run.
    from .job_server import drain

    return drain.undo(host, facts)


# What a run notes in the journal, and the function (host, facts) -> sentences that takes it back.
UNDO = {
    changes.KIND: changes.undo,
    directories.KIND: directories.undo,
    "closed": _open_job_server,  # drain.KIND
}
# Where modules write files that are not in a ChangeSet, under the lock.
_OWN_DIRECTORIES = ("/var/lib/gearvisor", "/var/lib/gearvisor/fleets")


def report(host):
    """Return sentences about interrupted runs; nothing is touched."""
    return journal.recover(host, UNDO, report_only=True)


def recover(host, seconds):
    """Take back what interrupted runs have left, and return sentences about it.

    What they left running is ended, or, for apt, waited for up to *seconds*.
    """
    reports = processes.end_abandoned(seconds, host.proc)
    if packages.remove_policy():
        reports.append(f"An interrupted run had left {packages.POLICY}, which is as it was before")
    temporary.remove_abandoned(host.path(parent) for parent in temporary.PARENTS)
    for directory in _OWN_DIRECTORIES:
        files.remove_all_temporaries(host.path(directory))
    return reports + journal.recover(host, UNDO)
