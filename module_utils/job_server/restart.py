# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a running gearmand may be ended, how, and at the price of which jobs. All pure."""

from __future__ import annotations

from typing import NamedTuple

from ..failure import InvalidOption
from ..gearvisor.escape import escaped

_SHOWN_FUNCTIONS = 10


class Decision(NamedTuple):
    """How the running server is brought up to date: "restart", "drain" or "leave"; what that loses."""

    how: str
    lost: dict


def decide(restart, jobs, kept, can_drain=True, unclosable=(), problem="it is not known why"):
    """Return the Decision on a running server that has to end.

    *jobs* is {function: FunctionStatus} of those that have any, None when the server does not
    answer, with the *problem*; *kept*: whether queued jobs are there again afterwards;
    *can_drain* whether the server takes the delayed jobs with which it is closed to new ones;
    *unclosable* are the functions in use that cannot be closed.
    Raises InvalidOption when jobs would be lost and the user did not choose how to continue.
    """
    at_risk = {} if kept else jobs or {}
    if restart == "never":
        return Decision("leave", {})
    if restart == "force":
        return Decision("restart", at_risk)
    if jobs is None:
        raise InvalidOption(
            "restart",
            restart,
            f"does not end a gearmand that does not answer as it should, so its jobs are not known: {problem}",
            "Run this again later, or use force (ends it at once) or never (leaves it as it is)",
        )
    if restart == "drain":
        if not can_drain:
            raise InvalidOption(
                "restart",
                restart,
                "is not supported with this queue type, which refuses the delayed jobs that it needs",
                "Use auto, or force (ends it at once)",
            )
        _check_closable(restart, unclosable)
        return Decision("drain", {})
    if at_risk:
        raise InvalidOption(
            "restart",
            restart,
            f"would lose {jobs_text(at_risk)}",
            "Use drain (waits until all jobs are done and takes no new ones meanwhile), force (ends it at "
            "once) or never (leaves it as it is)",
            lost=as_json(at_risk),
        )
    if kept or not can_drain:
        return Decision("restart", {})
    # A job that comes in at the last moment is refused.
    _check_closable(restart, unclosable)
    return Decision("drain", {})


def _check_closable(restart, functions):
    if functions:
        raise InvalidOption(
            "restart",
            restart,
            f"cannot close {names_text(functions)} to new jobs: gearmand's admin commands cannot name a "
            "function with a blank or a line break, and a job that comes in at the last moment would be lost",
            "Stop the clients and workers of it and let its jobs be done (gearman_info shows them): without "
            "jobs and workers it does not stand in the way. Or use force (ends gearmand at once)",
        )


def names_text(functions):
    """Return the functions' names, escaped, for a sentence."""
    shown = [f"'{escaped(name, 80)}'" for name in sorted(functions)[:_SHOWN_FUNCTIONS]]
    more = len(functions) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def jobs_text(jobs):
    """Return how many jobs of which functions, in words."""
    total = sum(status.queued + status.running for status in jobs.values())
    by_number = sorted(jobs.items(), key=lambda item: -item[1].queued)
    shown = [
        f"{escaped(name, 80)} ({status.queued} queued, {status.running} running)"
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
