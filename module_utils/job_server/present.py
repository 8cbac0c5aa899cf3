# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""state: present and restarted.

The order is what makes it safe: check every value, the port and the jobs that a restart would
lose; wait for jobs that must finish first; only then write and restart; when the new server does
not answer, the old files and the old server come back.
"""

from __future__ import annotations

import dataclasses
import os

from ..failure import GearvisorError, InvalidOption
from ..host.changes import ChangeSet
from ..outcome import Outcome, prepared
from . import checks, config, package_version, queues, readiness, service, start_record, unit
from .package_version import PACKAGE
from .restart import Decision, as_json
from .state import State, ending

_AT_START = {config.CONFIG: config.at_start, service.DROP_IN: unit.at_start}


@dataclasses.dataclass
class Plan:
    """What a run does. packages: what apt-get is asked for. preview: keeper.service.Preview."""

    changes: ChangeSet
    packages: list
    preview: object
    decision: Decision
    actions: list

    @property
    def changed(self):
        return bool(self.changes.changed or self.actions)

    @property
    def pending(self):
        """Whether the running server is left with an older configuration or version."""
        return self.decision is not None and self.decision.how == "leave"


def converge(request, host, keeper=None):
    """Make the host's job server run as requested; return the module's Outcome.

    Raises GearvisorError (InvalidOption for the user's input) with nothing changed, or after the
    old files and server have been put back.
    """
    state = State(request, host, keeper)
    checks.port(state)
    plan = _plan(state)
    if plan.changed and not host.check_mode:
        _apply(state, plan)
    return _outcome(state, plan)


def _plan(state):
    changes = _changes(state)
    wanted = package_version.wanted(state.host, state.installed, state.request.version)
    if state.installed:
        checks.arguments(state, changes)
    preview = state.keeper.preview(True)
    redefined = bool(wanted) or preview.redefines or state.request.state == "restarted"
    decision = _decision(state, changes, redefined)
    actions = [f"install {specification}" for specification in wanted] + list(preview.lines)
    if state.current is None:
        actions.append("start gearmand")
    elif decision is not None and decision.how != "leave":
        actions.append(ending("restart", decision))
    return Plan(changes, wanted, preview, decision, actions)


def _changes(state):
    """Return the ChangeSet of the files; raises GearvisorError for those of others."""
    settings, host, keeper = state.request.settings, state.host, state.keeper
    if keeper.manager == "supervisor" and settings.memory_max is not None:
        raise InvalidOption(
            "memory_max",
            settings.memory_max,
            "needs systemd: Supervisor limits no memory",
            "Leave it out on this host",
        )
    changes = ChangeSet(host)
    limit = config.own_limit(settings, keeper.hard_file_limit())
    # gearmand reads it as its own user; it may hold a database's password.
    changes.want(
        config.CONFIG,
        config.config_text(settings, limit),
        0o640,
        group=config.USER,
        mask=queues.without_secrets,
    )
    changes.want(config.MAX_QUEUE_SCRIPT, config.max_queue_script())
    for path, text in keeper.files().items():
        changes.want(path, text)
    for path in (config.CONFIG, config.MAX_QUEUE_SCRIPT, *keeper.files()):
        found = changes.before(path)
        if found is not None and not config.is_ours(found):
            raise GearvisorError(
                f"{path} was not written by this module, so it is left alone. Move it away if this "
                "module is to manage the job server; its settings then come from the options"
            )
    service.want_defaults(changes, host, config.defaults_text)
    queue = settings.queue
    if queue.path and not os.path.lexists(host.path(os.path.dirname(queue.path))):
        owner = {"owner": config.USER, "group": config.USER}
        changes.want_directory(os.path.dirname(queue.path), 0o750, **owner)
    return changes


def _decision(state, changes, redefined):
    """Return the Decision, or None when what runs is as requested or nothing runs."""
    current, settings = state.current, state.request.settings
    if current is None:
        return None
    stale = any(
        at_start(current.files.get(path, changes.before(path))) != at_start(changes.after(path))
        for path, at_start in _AT_START.items()
        if path in (config.CONFIG, *state.keeper.files())
    )
    taken_over = current.process.argv() != service.command(state.keeper.manager, state.host)
    if not (stale or taken_over or redefined or current.process.replaced()):
        return None
    decision = state.decide(settings.queue)
    if taken_over:
        _warn_of_lost_options(state)
    return decision


def _warn_of_lost_options(state):
    for lost in config.lost_options(state.current.started, state.request.settings):
        state.warnings.append(f"The gearmand that runs was not started by this module: {lost}")


def _apply(state, plan):
    """Carry the plan out. Raises GearvisorError with the old files and server put back."""
    request, keeper = state.request, state.keeper
    done = "Nothing was changed"
    was_enabled = bool(state.installed) and keeper.enabled()
    if plan.packages:
        package_version.install(state.host, plan.packages, request.version)
        done += f" but the package, {plan.packages[0]}"
        # Its files and its user exist now.
        plan.changes = _changes(state)
        checks.arguments(state, plan.changes)
    with state.closed(plan.decision, done):
        try:
            with plan.changes.applied():
                checks.queue_place(state)
                paths = set(plan.changes.paths()) & set(_AT_START)
                if paths:
                    before = {path: plan.changes.before(path) for path in paths}
                    start_record.save(state.host, state.current, before)
                _bring_up(state, plan)
        except BaseException as error:
            # The files are back already.
            back = _put_back(state, was_enabled)
            if not isinstance(error, (GearvisorError, OSError)):
                raise
            details = getattr(error, "details", {})
            log = details.get("log")
            log_lines = f". The last lines of its log: {log}" if log else ""
            raise GearvisorError(f"{error}. {back}{log_lines}", **details) from error


def _bring_up(state, plan):
    current, keeper = state.current, state.keeper
    if current is not None and (plan.decision is None or plan.pending):
        keeper.prepare()
        return
    if current is None:
        keeper.start()
    else:
        keeper.restart()
    old = current.process if current else None
    readiness.wait(keeper, _address(state), state.request.ready_timeout, old)
    start_record.clear(state.host)


def _put_back(state, was_enabled):
    """Put the old server back, whose files are back; return a sentence that reports it."""
    current, keeper = state.current, state.keeper
    try:
        keeper.reread()
        if current is None:
            if was_enabled:
                keeper.stop()
            else:
                keeper.remove()
            start_record.clear(state.host)
            return "It was stopped, and the old files are back"
        if current.process.identity() is not None:
            return "The old files are back, and the server was not touched"
        keeper.restart()
        readiness.wait(keeper, current.started.address, state.request.ready_timeout)
        start_record.clear(state.host)
    except Exception as error:
        return f"The old server could not be restored completely: {error}"
    return "The old configuration is back, and the server runs with it"


def _address(state):
    settings = state.request.settings
    return config.client_address(settings.listen, settings.port)


def _outcome(state, plan):
    current, request, host = state.current, state.request, state.host
    address = current.started.address if plan.pending else _address(state)
    if plan.pending:
        state.warnings.append(
            "gearmand still runs as before: restart: never leaves its restart to you"
        )
    queue = request.settings.queue
    if queue.path and f"{queue.path}/".startswith(f"{config.PURGED}/"):
        state.warnings.append(
            f"queue.path: a purge of {PACKAGE} deletes {config.PURGED} with the queue"
        )
    if host.check_mode or plan.pending:
        version = readiness.version(address)
    else:
        version = readiness.wait(state.keeper, address, request.ready_timeout)
    if not host.check_mode:
        checks.file_limit(state)
    package = state.installed
    if plan.packages and not host.check_mode:
        package = package_version.installed(host)
    shown = () if plan.pending else plan.preview.diffs
    paths = [*plan.changes.paths(), *(entry["after_header"] for entry in shown)]
    return Outcome(
        changed=plan.changed,
        actions=plan.actions,
        files=sorted(paths),
        diff=[*plan.changes.diff(), *shown, *prepared(plan.actions)],
        warnings=state.warnings,
        details={
            "server": _address(state),
            "version": version,
            "package_version": package,
            "service_manager": state.keeper.manager,
            "workers": current.workers if current else {},
            "restarted": plan.decision is not None and not plan.pending,
            "restart_pending": plan.pending,
            "lost": as_json(plan.decision.lost) if plan.decision else {},
        },
    )
