# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions as an operator thinks of them: over all job servers, with this host's workers. Pure."""

from __future__ import annotations

from typing import NamedTuple

from .observe import View


class Function(NamedTuple):
    """One function. waiting, running, workers: over all job servers that answer.

    The rest is of this host's workers since they started: jobs done and failed, their seconds
    together, jobs per second, and the mean and longest wait of those whose wait is known (None:
    of none). paused_since: seconds since the epoch, None when it is not paused here.
    """

    name: str
    waiting: int = 0
    running: int = 0
    workers: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    wait_mean: float | None = None
    wait_max: float | None = None
    paused_since: float | None = None


def functions(view: View, before: View | None = None) -> list[Function]:
    """Return all functions that anything is known of, by name.

    before: an earlier view, for the rate between the two; without it that since the workers began.
    """
    names = set(view.paused)
    for server in view.servers:
        names.update(server.functions)
    for worker in view.workers:
        names.update(worker.facts["functions"])
    earlier = {row.name: row for row in functions(before)} if before else {}
    elapsed = view.now - before.now if before else 0.0
    return [_function(view, name, earlier.get(name), elapsed) for name in sorted(names)]


def _function(view: View, name: str, earlier: Function | None, elapsed: float) -> Function:
    statuses = [each.functions[name] for each in view.servers if name in each.functions]
    alive = [each for each in view.workers if each.alive and name in each.facts["functions"]]
    tallies = [each.facts["functions"][name] for each in alive]
    done, failed = (sum(each[key] for each in tallies) for key in ("done", "failed"))
    waited = sum(each["waits"]["count"] for each in tallies)
    if earlier is not None and elapsed > 0:
        rate = max(0, done + failed - earlier.done - earlier.failed) / elapsed
    else:
        rate = sum(
            (tally["done"] + tally["failed"]) / max(1.0, view.now - each.facts["started"])
            for each, tally in zip(alive, tallies)
        )
    return Function(
        name,
        sum(each.queued for each in statuses),
        sum(each.running for each in statuses),
        sum(each.workers for each in statuses),
        done,
        failed,
        sum(each["seconds"] for each in tallies),
        rate,
        sum(each["waits"]["seconds"] for each in tallies) / waited if waited else None,
        max(each["waits"]["max"] for each in tallies) if waited else None,
        view.paused.get(name),
    )
