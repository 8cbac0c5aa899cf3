# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""state: stopped and absent."""

from __future__ import annotations

import os

from ..failure import InvalidOption
from ..host import directories, packages
from ..host.changes import ChangeSet
from ..host.files import read_text
from ..outcome import Outcome, prepared
from . import config, queues, service, start_record
from .package_version import PACKAGE
from .restart import as_json, jobs_text
from .state import State, ending


def stopped(request, host, keeper=None):
    """Stop the job server until it is started again; return the module's Outcome."""
    state = State(request, host, keeper)
    decision = None
    if state.current is not None:
        _check_ends(request, "leaves gearmand running")
        decision = state.decide(state.current.started.queue)
    actions = [ending("stop", decision)] if decision else []
    if actions and not host.check_mode:
        with state.closed(decision, "It was not stopped"):
            state.keeper.stop()
        start_record.clear(host)
    return Outcome(
        changed=bool(actions),
        actions=actions,
        diff=prepared(actions),
        warnings=state.warnings,
        details={
            "service_manager": state.keeper.manager,
            "workers": state.current.workers if state.current else {},
            "lost": as_json(decision.lost) if decision else {},
        },
    )


def absent(request, host, keeper=None):
    """Remove the job server, but no queue that outlives it; return the module's Outcome.

    Refuses while jobs wait, unless forced.
    """
    state = State(request, host, keeper)
    changes = _changes(state)
    preview = state.keeper.preview(False)
    decision = _decision(state)
    actions = [ending("stop", decision)] if decision is not None else []
    actions += preview.lines
    if state.installed:
        actions.append(f"remove {PACKAGE}")
    changed = bool(changes.changed or actions)
    if changed and not host.check_mode:
        _apply(state, changes, decision)
    paths = [*changes.paths(), *(entry["after_header"] for entry in preview.diffs)]
    return Outcome(
        changed=changed,
        actions=actions,
        files=sorted(paths),
        diff=[*changes.diff(), *preview.diffs, *prepared(actions)],
        warnings=state.warnings,
        details={
            "service_manager": state.keeper.manager,
            "lost": as_json(decision.lost) if decision else {},
        },
    )


def _check_ends(request, problem):
    if request.restart == "never":
        raise InvalidOption("restart", "never", problem, "Use auto, drain or force")


def _changes(state):
    changes = ChangeSet(state.host)
    for path in (config.CONFIG, config.MAX_QUEUE_SCRIPT, *state.keeper.files()):
        found = read_text(state.host.path(path))
        if found is not None and not config.is_ours(found):
            state.warnings.append(f"{path} was not written by this module and stays")
            continue
        changes.want(path, None, mask=queues.without_secrets)
    changes.want(config.MAX_QUEUE, None)
    service.want_defaults(changes, state.host, config.defaults_restored)
    return changes


def _decision(state):
    current, request = state.current, state.request
    if current is None:
        return None
    _check_ends(request, "leaves gearmand running, so it cannot be removed")
    queue = current.started.queue
    if queue.survives_restart and current.jobs:
        left = f"{jobs_text(current.jobs)}: {queue.path or queue.type}"
        if request.restart == "auto":
            raise InvalidOption(
                "restart",
                request.restart,
                f"would leave behind a queue that nothing serves, with {left}",
                "Use drain (waits until all jobs are done), move them to another job server "
                "(playbooks/move_queue.yml), or use force (leaves the queue where it is)",
                lost=as_json(current.jobs),
            )
        state.warnings.append(f"The queue stays, with {left}")
    return state.decide(queue)


def _apply(state, changes, decision):
    host = state.host
    with state.closed(decision, "Nothing was removed"):
        state.keeper.remove()
        with changes.applied():
            state.keeper.reread()
    start_record.clear(host)
    for path in changes.paths():
        directories.remove_empty(os.path.dirname(host.path(path)))
    if state.installed:
        packages.remove(host.run, [PACKAGE])
