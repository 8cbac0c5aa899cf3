# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a running gearmand may be ended, how, and at the price of which jobs. All pure."""

from __future__ import annotations

from typing import NamedTuple

from ..failure import InvalidOption

_SHOWN_FUNCTIONS = 10


class Decision(NamedTuple):
    """How the running server is brought up to date: "restart", "drain" or "leave"; what that loses."""

    how: str
    lost: dict


def decide(restart, jobs, kept, can_drain=True):
    """Return the Decision on a running server that has to end.

    *jobs* is {function: FunctionStatus} of those that have any, None when the server does not
    answer; *kept* tells whether queued jobs are there again afterwards; *can_drain* whether the
    server can be closed to new jobs.
    Raises InvalidOption when jobs would be lost and the user did not say how to go on.
    """
    at_stake = {} if kept else jobs or {}
    if restart == "never":
        return Decision("leave", {})
    if restart == "force":
        return Decision("restart", at_stake)
    if jobs is None:
        raise InvalidOption(
            "restart",
            restart,
            "does not restart a gearmand that does not answer: its jobs are not known, or somebody is "
            "shutting it down",
            "Run this again later, or use force (ends it at once) or never (leaves it as it is)",
        )
    if restart == "drain":
        if not can_drain:
            raise InvalidOption(
                "restart",
                restart,
                "cannot be had with this queue, which refuses the delayed jobs that it takes",
                "Use auto, or force (ends it at once)",
            )
        return Decision("drain", {})
    if at_stake:
        raise InvalidOption(
            "restart",
            restart,
            f"would lose {jobs_text(at_stake)}",
            "Use drain (waits until all jobs are done and takes no new ones meanwhile), force (ends it at "
            "once) or never (leaves it as it is)",
            lost=as_json(at_stake),
        )
    # A job that comes in at the last moment is refused, or survives the end.
    return Decision("restart" if kept or not can_drain else "drain", {})


def jobs_text(jobs):
    """Return how many jobs of which functions, in words."""
    total = sum(status.queued + status.running for status in jobs.values())
    by_number = sorted(jobs.items(), key=lambda item: -item[1].queued)
    shown = [
        f"{name} ({status.queued} queued, {status.running} running)"
        for name, status in by_number[:_SHOWN_FUNCTIONS]
    ]
    more = len(jobs) - len(shown)
    if more > 0:
        shown.append(f"and {more} more functions")
    return f"{total} job{'' if total == 1 else 's'}: {', '.join(shown)}"


def as_json(jobs):
    """Return {function: {"queued": n, "running": n}}."""
    return {
        name: {"queued": jobs[name].queued, "running": jobs[name].running} for name in sorted(jobs)
    }
