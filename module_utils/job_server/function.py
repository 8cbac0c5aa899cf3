# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One function of job servers: its limit of jobs, its waiting jobs, and its end.

gearmand forgets limits when it stops, and never tells them. So that of this host's own server is
kept in a file, from which it is set after each start (max_queue.py) and compared here.
"""

from __future__ import annotations

import grp
import json
import os
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..gearvisor.admin import Admin
from ..gearvisor.connection import Connection, parse_server
from ..gearvisor.errors import AdminError, GearmanError
from ..gearvisor.protocol import Packet, check_function, encode
from ..host.files import diffs, read_text, write_text
from . import config, function_limit, ports

_TIMEOUT = 5
# gearmand reads it by atoi.
_MOST = 2**31 - 1


class Request(NamedTuple):
    """What the function shall be; the names are the module's options."""

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
        if len(request.name.split()) != 1 or request.name.strip() != request.name:
            raise ValueError("it holds white space, which the admin commands cannot name")
    except ValueError as error:
        raise InvalidOption(
            "name", request.name, f"is no function: {error}", "Correct it"
        ) from None
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
                "Give one for all jobs, or three for high, normal and low priority; 0 is no limit",
            )
    for server in request.servers or ():
        try:
            parse_server(server)
        except ValueError as error:
            raise InvalidOption(
                "servers", server, f"is no job server: {error}", "Write host:port"
            ) from None


def own_server():
    """Return Own, or None when gearman_job_server does not run one on this host."""
    text = read_text(config.CONFIG)
    if text is None or not config.is_ours(text):
        return None
    host, port = function_limit.address(text)
    return Own(config.client_address(host, port), port)


def is_own(server, own):
    """Tell whether this "host:port" is this host's own job server."""
    host, port = parse_server(server)
    if own is None or port != own.port:
        return False
    try:
        return bool(ports.local_addresses(host))
    except InvalidOption:
        return False


def converge(request, check_mode=False):
    """Make the function what *request* says on all servers; return the module's result.

    Raises GearvisorError; InvalidOption before anything is changed.
    """
    check(request)
    own = own_server()
    servers = request.servers or ((own.server,) if own else ())
    if not servers and check_mode:
        # As before the first run of gearman_job_server.
        return {
            "changed": True,
            "servers": [],
            "kept": True,
            "actions": [],
            "cancelled": 0,
            "warnings": ["There is no job server on this host yet, so nothing could be looked at"],
            "diff": [],
        }
    if not servers:
        raise InvalidOption(
            "servers",
            None,
            "is not given, and gearman_job_server set up no job server on this host",
            "Give host:port, or run this on the job server's host",
        )
    kept = any(is_own(server, own) for server in servers)
    limits = json.loads(read_text(config.MAX_QUEUE) or "{}")
    wanted = _limits(request, limits) if kept else limits
    if wanted != limits and os.geteuid() != 0:
        raise GearvisorError(f"{config.MAX_QUEUE} belongs to root. Set become: true")
    plans = [_look(request, server) for server in servers]
    actions = [action for plan in plans for action in plan.actions]
    changed = bool(actions) or wanted != limits
    cancelled = 0
    if not check_mode:
        if wanted != limits:
            _keep(wanted)
        for plan in plans:
            cancelled += _carry_out(request, plan)
    return {
        "changed": changed,
        "servers": list(servers),
        "kept": kept,
        "actions": actions,
        "cancelled": cancelled,
        "warnings": _warnings(request, servers, own),
        "diff": _diff(limits, wanted, actions),
    }


def _limits(request, limits):
    """Return what the file of limits shall hold."""
    others = {name: sizes for name, sizes in limits.items() if name != request.name}
    if request.state == "absent" or (request.max_queue is not None and not any(request.max_queue)):
        return others
    if request.max_queue is None:
        return limits
    return {**others, request.name: list(request.max_queue)}


def _keep(limits):
    text = json.dumps(limits, indent=2, sort_keys=True) + "\n"
    # What starts gearmand reads it as gearmand's user.
    write_text(config.MAX_QUEUE, text, 0o640, 0, grp.getgrnam(config.USER).gr_gid)


class _Plan(NamedTuple):
    server: str
    known: bool
    jobs: int
    actions: tuple


def _look(request, server):
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
                "Stop them first: gearmand forgets no function that somebody serves",
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
                # Each time, for somebody else may have changed it, and gearmand does not tell.
                admin.max_queue(request.name, *request.max_queue)
    except GearmanError as error:
        raise GearvisorError(
            f"servers: {plan.server!r} did not do it: {error}. Run this again"
        ) from None
    return cancelled


def _cancel(name, server, jobs):
    """Take waiting jobs off a queue by failing them, as a worker; return how many.

    That is final for every backend, and tells the clients that wait. gearmand's own command takes
    handles, which it lists without their functions.
    """
    connection = Connection(*parse_server(server), _TIMEOUT)
    connection.send(encode(Packet.CAN_DO, name.encode()))
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
    connection.send(encode(Packet.CANT_DO, name.encode()))
    # gearmand reads all of it before it answers the end.
    connection.finish(_TIMEOUT)
    return cancelled


def _drop(admin, name):
    left = admin.status().get(name)
    if left and (left.queued or left.running):
        raise AdminError(
            f"{admin.server}: {name} has {left.queued} jobs that nobody can take (delayed, or new)"
        )
    admin.drop(name)


def _warnings(request, servers, own):
    """Say where a limit does not last."""
    if request.max_queue is None:
        return []
    return [
        f"{server} forgets max_queue when it stops: run this on its own host to have it kept"
        for server in servers
        if not is_own(server, own)
    ]


def _diff(limits, wanted, actions):
    def text(values):
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    shown = []
    if wanted != limits:
        shown = diffs({config.MAX_QUEUE: text(limits)}, {config.MAX_QUEUE: text(wanted)})
    return [*shown, *([{"prepared": "\n".join(actions) + "\n"}] if actions else [])]
