# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen of a host and its job servers at one moment: gathered here, judged elsewhere.

Each source is bounded in time. A job server that hangs costs only its own answer: each is asked in
a thread of its own, and the last one is not waited for longer than the time limit.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import failed, failed_jobs, pause, percent, regular_file, status_file, unique_ids
from .admin import Admin
from .admin_replies import FunctionStatus
from .errors import GearmanError

if TYPE_CHECKING:
    import ssl

PROCESSES = "/run/gearvisor/processes.json"  # written by Gearvisor's event listener
MAX_PROCESSES = 8 * 2**20  # bytes of that file
ROLLOUT = "/run/gearvisor/rollout.json"  # kept by the module supervisor_programs while it rolls out
MAX_ROLLOUT = 2**20  # bytes of that file
FAILURES = 10  # failed jobs that are read
MAX_FAILURE = 2**18  # bytes of such a file
FEW_JOBS = 5_000  # up to so many, a job server is asked for their unique ids


class Server(NamedTuple):
    """A job server's answer. error: why it is not up; oldest: age of its oldest job in seconds.

    oldest is None without jobs, when no job shows its age, or when there are many.
    """

    address: str
    up: bool
    seconds: float
    error: str = ""
    version: str = ""
    functions: Mapping[str, FunctionStatus] = {}
    oldest: float | None = None


class Process(NamedTuple):
    """A process of supervisord. state: as Supervisor names it; since: when it began to run.

    failures: times of unexpected ends in the last ten minutes.
    """

    program: str
    name: str
    state: str
    since: float
    failures: tuple[float, ...] = ()


class Worker(NamedTuple):
    """A worker process of this host: its status file's content, and whether it still runs."""

    user: str
    name: str
    alive: bool
    facts: Mapping[str, Any]

    @property
    def program(self) -> str:
        """The program: "mail" of Supervisor's group "mail_03"."""
        return re.sub(r"_[0-9]+\Z", "", self.facts["program"] or self.name)


class Failure(NamedTuple):
    """A failed job, without its payload. times: how often it failed."""

    id: str
    user: str
    function: str
    failed: float
    times: int
    error: str


class Step(NamedTuple):
    """How far a rollout is with one program. total: processes; left: those not begun yet.

    jobs, failed: what the first batch did while it was watched; None before.
    """

    program: str
    total: int
    left: int
    jobs: int | None = None
    failed: int | None = None


class Rollout(NamedTuple):
    """A rollout of this host's workers. phase: rollout or roll-back.

    alive: whether the run that carries it out still goes on.
    """

    fleet: str
    started: float
    phase: str
    alive: bool
    steps: Sequence[Step] = ()


class View(NamedTuple):
    """All of it.

    paused: since when, by function; failed: entries and bytes of the store; failures: the newest.
    """

    now: float
    servers: Sequence[Server] = ()
    workers: Sequence[Worker] = ()
    processes: Sequence[Process] | None = None
    paused: Mapping[str, float] = {}
    failed: tuple[int, int] = (0, 0)
    failures: Sequence[Failure] = ()
    rollout: Rollout | None = None


class Places(NamedTuple):
    """Where a host's facts are."""

    status: str = status_file.DIRECTORY
    processes: str = PROCESSES
    paused: str = pause.DIRECTORY
    failed: str = failed.DIRECTORY
    rollout: str = ROLLOUT


def observe(
    addresses: Sequence[str],
    timeout: float,
    context: ssl.SSLContext | None = None,
    places: Places | None = None,
) -> View:
    """Return what can be seen now. timeout: seconds for all job servers together."""
    places = places or Places()
    servers = ask_all(addresses, timeout, context)
    try:
        paused = pause.paused(places.paused)
    except GearmanError:
        paused = {}
    return View(
        time.time(),
        servers,
        workers(places.status),
        processes(places.processes),
        paused,
        failed_jobs.store_size(places.failed),
        failures(places.failed),
        rollout(places.rollout),
    )


def ask_all(
    addresses: Iterable[str], timeout: float, context: ssl.SSLContext | None = None
) -> list[Server]:
    """Ask job servers at the same time; return their answers in the order given."""
    deadline = time.monotonic() + timeout
    answers: dict[str, Server] = {}

    def ask(address: str) -> None:
        answers[address] = ask_one(address, timeout, context)

    threads = {
        address: threading.Thread(target=ask, args=(address,), daemon=True)
        for address in dict.fromkeys(addresses)
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer in {timeout:g} s"
    return [answers.get(address) or Server(address, False, timeout, late) for address in threads]


def ask_one(address: str, timeout: float, context: ssl.SSLContext | None = None) -> Server:
    """Ask one job server. timeout: seconds for each of its answers."""
    started = time.monotonic()
    try:
        with Admin(address, timeout, context) as admin:
            version = admin.version()
            functions = admin.status()
            jobs = sum(each.queued + each.running for each in functions.values())
            oldest = _oldest(admin.unique_ids()) if 0 < jobs <= FEW_JOBS else None
    except (GearmanError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        return Server(address, False, time.monotonic() - started, reason)
    return Server(address, True, time.monotonic() - started, "", version, functions, oldest)


def _oldest(uniques: Iterable[str]) -> float | None:
    now = time.time()
    made = [at for at in (unique_ids.made_at(unique, now) for unique in uniques) if at is not None]
    return now - min(made) if made else None


def workers(directory: str = status_file.DIRECTORY) -> list[Worker]:
    """Return the workers of this host that write status files which we may read."""
    found = []
    for path in status_file.paths(directory):
        try:
            facts = status_file.read(path)
        except GearmanError:
            continue
        user = os.path.basename(os.path.dirname(path))
        # Not the name in the file, which two files might have.
        name = percent.decoded(os.path.basename(path)[: -len(".json")]) or b"?"
        text = name.decode(errors="surrogateescape")
        found.append(Worker(user, text, status_file.is_alive(facts), facts))
    return found


def failures(directory: str = failed.DIRECTORY) -> list[Failure]:
    """Return the newest failed jobs, but for those whose files are large."""
    found: list[Failure] = []
    try:
        newest = failed_jobs.places(directory)[:FAILURES]
    except GearmanError:
        return found
    for place in newest:
        try:
            entry = failed_jobs.read(place, MAX_FAILURE)
        except GearmanError:
            continue
        times = failed_jobs.attempts(entry)
        found.append(
            Failure(place.id, place.user, entry["function"], entry["failed"], times, entry["error"])
        )
    return found


def processes(path: str = PROCESSES) -> list[Process] | None:
    """Return supervisord's processes as Gearvisor's event listener saw them, or None without it."""
    try:
        document = json.loads(regular_file.read(path, MAX_PROCESSES))
        started = status_file.pid_started(int(document["pid"]))
        if not started or started != int(document["pid_started"]):
            return None  # the listener is gone, and most likely supervisord with it
        return [
            Process(
                str(each["program"]),
                str(each["name"]),
                str(each["state"]),
                float(each["since"]),
                tuple(map(float, each["failures"])),
            )
            for each in document["processes"]
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def rollout(path: str = ROLLOUT) -> Rollout | None:
    """Return the rollout that the module supervisor_programs carries out, or None."""
    try:
        document = json.loads(regular_file.read(path, MAX_ROLLOUT))
        alive = status_file.pid_started(int(document["pid"])) == int(document["pid_started"])
        return Rollout(
            str(document["fleet"]),
            float(document["started"]),
            str(document["phase"]),
            alive,
            tuple(_step(str(name), facts) for name, facts in document["programs"].items()),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _step(program: str, facts: Mapping[str, Any]) -> Step:
    watched = [None if facts.get(key) is None else int(facts[key]) for key in ("jobs", "failed")]
    return Step(program, int(facts["total"]), int(facts["left"]), *watched)
