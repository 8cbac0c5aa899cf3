# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One function of job servers: its limit of jobs, its waiting jobs, and its end.

gearmand forgets limits when it stops, and never reports them. So the limit of this host's own
server is kept in a file, from which it is set after each start (max_queue.py) and compared here.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..gearvisor.admin import Admin
from ..gearvisor.connection import Connection, parse_server
from ..gearvisor.errors import AdminError, GearmanError
from ..gearvisor.protocol import Packet, check_function, encode
from ..host.changes import ChangeSet
from ..host.files import read_text
from ..outcome import Outcome, prepared
from . import config, function_limit, ports
from .drain import is_closable
from .info import check_servers
from .running import kept_limits

_TIMEOUT = 5
# gearmand reads it by atoi.
_MOST = 2**31 - 1


class Request(NamedTuple):
    """The requested function; the names are the module's options."""

    name: str
    state: str = "present"
    max_queue: tuple = None
    cancel: bool = False
    servers: tuple = None


class Own(NamedTuple):
    """This host's job server, where to reach it and on which port it is."""

    server: str
    port: int


def check(request):
    """Raise InvalidOption for values that cannot work."""
    try:
        check_function(request.name)
    except ValueError as error:
        raise InvalidOption(
            "name", request.name, f"is not a function: {error}", "Correct it"
        ) from None
    if not is_closable(request.name):
        raise InvalidOption(
            "name",
            request.name,
            "holds a blank or a line break, which gearmand's admin commands cannot name",
            "Give the function another name, in its clients and workers, too",
        )
    sizes = request.max_queue
    if sizes is not None:
        if request.state == "absent":
            raise InvalidOption(
                "max_queue", list(sizes), "has no meaning for state: absent", "Leave it out"
            )
        if len(sizes) not in (1, 3) or not all(0 <= size <= _MOST for size in sizes):
            raise InvalidOption(
                "max_queue",
                list(sizes),
                f"is neither one number nor three from 0 to {_MOST}",
                "Give one for all jobs, or three for high, normal and low priority; 0 means no limit",
            )
    if request.servers is not None:
        check_servers(request.servers)


def own_server(host):
    """Return Own, or None when gearman_job_server does not run one on this host."""
    text = read_text(host.path(config.CONFIG))
    if text is None or not config.is_ours(text):
        return None
    listen, port = function_limit.address(text)
    return Own(config.client_address(listen, port), port)


def is_own(server, own):
    """Return whether this "host:port" is this host's own job server."""
    host, port = parse_server(server)
    if own is None or port != own.port:
        return False
    try:
        return bool(ports.local_addresses(host))
    except InvalidOption:
        return False


def converge(params, host):
    """Make the function as requested on all servers; return the module's Outcome.

    Raises GearvisorError; InvalidOption before anything is changed.
    """
    request = Request(**{name: params.get(name) for name in Request._fields})
    check(request)
    own = own_server(host)
    servers = request.servers or ((own.server,) if own else ())
    if not servers and host.check_mode:
        # As before the first run of gearman_job_server.
        warnings = ["There is no job server on this host yet, so nothing could be inspected"]
        details = {"servers": [], "kept": True, "cancelled": 0}
        return Outcome(changed=True, warnings=warnings, details=details)
    if not servers:
        raise InvalidOption(
            "servers",
            None,
            "is not given, and gearman_job_server set up no job server on this host",
            "Give host:port, or run this on the job server's host",
        )
    kept = any(is_own(server, own) for server in servers)
    changes = _changes(request, host) if kept else ChangeSet(host)
    if changes.changed and os.geteuid() != 0:
        raise GearvisorError(f"{config.MAX_QUEUE} belongs to root. Set become: true")
    plans = [_inspect(request, server) for server in servers]
    actions = [action for plan in plans for action in plan.actions]
    cancelled = 0
    if not host.check_mode:
        with changes.applied() if changes.changed else contextlib.nullcontext():
            for plan in plans:
                cancelled += _carry_out(request, plan)
    return Outcome(
        changed=bool(actions) or changes.changed,
        actions=actions,
        files=changes.paths(),
        diff=[*changes.diff(), *prepared(actions)],
        warnings=_warnings(request, servers, own),
        details={"servers": list(servers), "kept": kept, "cancelled": cancelled},
    )


def _changes(request, host):
    """Return the ChangeSet of the file of limits."""
    limits = kept_limits(host)
    wanted = _limits(request, limits)
    changes = ChangeSet(host)
    if wanted != limits:
        text = json.dumps(wanted, indent=2, sort_keys=True) + "\n"
        # What starts gearmand reads it as gearmand's user.
        changes.want(config.MAX_QUEUE, text, 0o640, group=config.USER)
    return changes


def _limits(request, limits):
    """Return what the file of limits must hold."""
    others = {name: sizes for name, sizes in limits.items() if name != request.name}
    if request.state == "absent" or (request.max_queue is not None and not any(request.max_queue)):
        return others
    if request.max_queue is None:
        return limits
    return {**others, request.name: list(request.max_queue)}


class _Plan(NamedTuple):
    server: str
    known: bool
    jobs: int
    actions: tuple


def _inspect(request, server):
    """Return what has to be done on a server. Raises InvalidOption when it cannot be done."""
    try:
        with Admin(server, _TIMEOUT) as admin:
            status = admin.status().get(request.name)
            workers = [
                worker.client_id if worker.client_id != "-" else worker.address
                for worker in admin.workers()
                if request.name in worker.functions
            ]
    except GearmanError as error:
        raise GearvisorError(
            f"servers: {server!r} does not answer: {error}. Start it first"
        ) from None
    jobs = status.queued if status else 0
    actions = []
    if request.cancel and jobs:
        actions.append(f"cancel {jobs} waiting jobs of {request.name} on {server}")
    if request.state == "absent" and status:
        if workers:
            raise InvalidOption(
                "name",
                request.name,
                f"has workers on {server}: {', '.join(sorted(workers)[:5])}"
                f"{f' and {len(workers) - 5} more' if len(workers) > 5 else ''}",
                "Stop them first: gearmand keeps a function that has workers",
            )
        if (jobs or status.running) and not request.cancel:
            raise InvalidOption(
                "state",
                "absent",
                f"would lose {jobs} waiting jobs of {request.name} on {server}",
                "Let workers do them, or set cancel: true",
                jobs=jobs,
            )
        actions.append(f"drop {request.name} on {server}")
    if request.state == "present" and status is None:
        actions.append(f"create {request.name} on {server}")
    return _Plan(server, status is not None, jobs, tuple(actions))


def _carry_out(request, plan):
    """Do it on one server; return how many jobs were cancelled. Raises GearvisorError."""
    cancelled = 0
    try:
        if request.cancel and plan.jobs:
            cancelled = _cancel(request.name, plan.server, plan.jobs)
        with Admin(plan.server, _TIMEOUT) as admin:
            if request.state == "absent":
                if plan.known:
                    _drop(admin, request.name)
                return cancelled
            if not plan.known:
                admin.create(request.name)
            if request.max_queue is not None:
                # Each time: it may have been changed meanwhile, and gearmand does not report it.
                admin.max_queue(request.name, *request.max_queue)
    except GearmanError as error:
        raise GearvisorError(
            f"servers: {plan.server!r} did not do it: {error}. Run this again"
        ) from None
    return cancelled


def _cancel(name, server, jobs):
    """Take waiting jobs off a queue by failing them, as a worker; return how many.

    That is final for every backend, and notifies the clients that wait. gearmand's own command takes
    handles, which it lists without their functions.
    """
    connection = Connection(*parse_server(server), _TIMEOUT)
    connection.send(encode(Packet.CAN_DO, name.encode(errors="surrogateescape")))
    cancelled = 0
    while cancelled < jobs:
        connection.send(encode(Packet.GRAB_JOB_UNIQ))
        packet = connection.receive(_TIMEOUT)
        if packet is None or packet[0] == Packet.NO_JOB:
            break
        kind, arguments = packet
        if kind == Packet.JOB_ASSIGN_UNIQ:
            connection.send(encode(Packet.WORK_FAIL, arguments[0]))
            cancelled += 1
    connection.send(encode(Packet.CANT_DO, name.encode(errors="surrogateescape")))
    # gearmand reads all of it before it answers the end.
    connection.finish(_TIMEOUT)
    return cancelled


def _drop(admin, name):
    left = admin.status().get(name)
    if left and (left.queued or left.running):
        raise AdminError(
            f"{admin.server}: {name} has {left.queued} jobs that cannot be taken yet (delayed, or new)"
        )
    admin.drop(name)


def _warnings(request, servers, own):
    """Warn where a limit does not last."""
    if request.max_queue is None:
        return []
    return [
        f"{server} forgets max_queue when it stops: run this on its own host to have it kept"
        for server in servers
        if not is_own(server, own)
    ]
