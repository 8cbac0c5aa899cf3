# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as up: RUNNING with one pid for a while, and registered with the job servers.

supervisord's RUNNING means that a process has lived for startsecs. A worker serves once it is
registered for its functions at each job server that answers. Gearvisor's own workers are found by
their client id, $GEARVISOR_WORKER#PID. For others, the number of workers per function has to be
back to what it was.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import time
import types
from typing import NamedTuple

from ..failure import GearvisorError
from ..gearvisor import percent, status_file
from . import leftovers, watch
from .config_file import environment_values
from .plan import finishes
from .registrations import JobServers, words
from .rpc import BACKOFF, EXITED, FATAL, RUNNING

PAUSED = "/var/lib/gearvisor/paused"
# The worker commands of the Python package and of the PHP worker that the role gearman_php installs.
_OUR_COMMAND = re.compile(r"gearvisor(\S*\s+worker\b|/\S*worker\.php)")


class StartFailed(GearvisorError):
    """A process did not come up, or did not stay up."""


class Serving(NamedTuple):
    """What a program has to be registered for. *wanted*: words of function names.

    servers: "host:port" of its job servers; ours: it is one of Gearvisor's workers; others: the
    workers per function before, {server: {function: number}}, of a worker of another kind.
    before: how its jobs went.
    """

    servers: tuple = ()
    wanted: frozenset = frozenset()
    ours: bool = False
    others: dict = types.MappingProxyType({})
    before: watch.Before = watch.Before()


def servers_of(section):
    """Return the job servers of a program, by its command line or else its environment."""
    arguments = _arguments(section)
    named = [value for option, value in _pairs(arguments) if option == "--server"]
    if not named:
        environment = environment_values(section.options.get("environment", ""))
        named = environment.get("GEARVISOR_SERVERS", "").split(",")
    return tuple(server for server in named if re.match(r".+:\d+\Z", server))


def worker_name(section, process):
    """Return HOST/PROCESS, by which a Gearvisor worker is known, or None."""
    environment = environment_values(section.options.get("environment", ""))
    host, slash, _process = environment.get("GEARVISOR_WORKER", "").partition("/")
    return f"{host}/{process}" if slash else None


def status_path(section, process, directory=status_file.DIRECTORY):
    """Return where the status file of that process of the section is."""
    for option, value in _pairs(_arguments(section)):
        if option == "--status-file":
            return value
    user = section.options.get("user", "root")
    if user.isdigit():
        try:
            user = pwd.getpwuid(int(user)).pw_name
        except KeyError:
            pass
    return os.path.join(directory, user, percent.encoded(os.fsencode(process)) + ".json")


def _arguments(section):
    try:
        return shlex.split(section.options.get("command", ""))
    except ValueError:
        return []


def _pairs(arguments):
    """Yield (option, value) of "--option value" and "--option=value"."""
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        option, equals, value = argument.partition("=")
        yield option, value if equals else following


def same_command(before, after):
    """Return whether two sections run the same command, releases aside.

    A worker whose command did not change serves what it served before.
    """
    return _without_release(before) == _without_release(after)


def _without_release(section):
    environment = environment_values(section.options.get("environment", ""))
    release = environment.get("GEARVISOR_RELEASE")
    command = section.options.get("command", "")
    return command.replace(release, "(release)") if release else command


class Readiness:
    """Waits until processes are up, and knows what each program served before."""

    def __init__(self, supervisord, view, pace, functions, runtime, paused):
        """*functions*: {program: list} as the user gave them; *runtime*, *paused*: directories."""
        self._supervisord = supervisord
        self._view = view
        self._pace = pace
        self._functions = functions
        self._runtime = runtime
        self._paused = paused
        self._programs = {}
        self._paused_seen = set()
        self.job_servers = JobServers()

    def look_before(self, program, pairs):
        """Note what the program serves now. *pairs* are (old Section or None, new Section)."""
        if not self._pace.stable and not self._pace.watch.seconds:
            return
        servers = servers_of(pairs[0][1])
        answers = self.job_servers.registered(servers)
        served, pids, statuses = set(), set(), []
        for old, new in pairs:
            if old is None or not same_command(old, new):
                continue
            for process in self._view.processes(old.group):
                its_pids = leftovers.tree(process.pid)
                pids |= its_pids
                status = self.status(old, process, its_pids)
                if status is not None:
                    statuses.append(status)
                    served |= words(status["functions"])
                for answer in answers.values():
                    served |= _served(answer, worker_name(old, process.name), its_pids, status)
        ours = bool(served) or bool(_OUR_COMMAND.search(pairs[0][1].options.get("command", "")))
        others = {}
        if not ours and leftovers.connected(pids, servers):
            others = {server: answer.others for server, answer in answers.items()}
        given = self._functions.get(program)
        self._programs[program] = Serving(
            servers,
            frozenset(words(given) if given else served),
            ours,
            others,
            watch.before(statuses),
        )

    def serving(self, program):
        """Return the Serving of the program as it was before."""
        return self._programs.get(program, Serving())

    def status(self, section, process, pids=None):
        """Return the status that this process wrote, or None."""
        try:
            status = status_file.read(status_path(section, process.name, self._runtime))
        except status_file.StatusFileError:
            return None
        pids = leftovers.tree(process.pid) if pids is None else pids
        return status if status["pid"] in pids else None

    def until_up(self, section):
        """Wait until the group's processes, RUNNING now, are up. Raises StartFailed."""
        if not self._pace.stable:
            return
        deadline = time.monotonic() + self._pace.stable + self._pace.wait_timeout
        looks = {}
        while not self._view.halted:
            now = time.monotonic()
            problem = ""
            for process in self._view.processes(section.group):
                if finishes(section.options) and process.state == EXITED:
                    continue
                look = looks.setdefault(process.name, _Look(process.pid, now))
                self._check_ended(section, process, look, now)
                if process.state != RUNNING or now - look.since < self._pace.stable:
                    problem = problem or f"has not stayed up for {self._pace.stable:g} s"
                else:
                    problem = problem or self._not_serving(section, process)
                if problem and now > deadline:
                    ends = f" and ended {look.ends} times meanwhile" if look.ends else ""
                    self.fail(section, process, f"{problem}{ends}")
            if not problem:
                return
            yield

    def check_running(self, section, looks):
        """Raise StartFailed if one of the group's processes has crashed.

        *looks* are this method's own, kept from look to look; begin with {}.
        """
        now = time.monotonic()
        for process in self._view.processes(section.group):
            if finishes(section.options) and process.state == EXITED:
                continue
            look = looks.setdefault(process.full_name, _Look(process.pid, now))
            self._check_ended(section, process, look, now)

    def _check_ended(self, section, process, look, now):
        """Note that the process was replaced by another; raises StartFailed if it had crashed."""
        if process.state == RUNNING and process.pid == look.pid:
            if not look.worked and now >= look.status_due:
                look.status_due = now + 1
                status = self.status(section, process)
                look.worked = bool(status and status["done"] + status["failed"])
            return
        if process.state in (BACKOFF, FATAL):
            self.fail(section, process, process.reason or f"it is {process.state}")
        if process.state != RUNNING or process.pid == look.pid:
            return
        how = self._supervisord.last_exit(process.name)
        if how and how != "exit status 0":
            self.fail(section, process, f"it ended and was started again: {how}")
        look.ends += 1
        look.pid = process.pid
        if not look.worked:
            look.since = now
        look.worked = False

    def _not_serving(self, section, process):
        """Return why the process does not serve yet, or ""."""
        serving = self.serving(section.program)
        pids = leftovers.tree(process.pid)
        status = self.status(section, process, pids)
        wanted = serving.wanted or frozenset(words(status["functions"]) if status else ())
        wanted -= self._paused_words()
        name = worker_name(section, process.name)
        if not serving.ours and not serving.others and not self._functions.get(section.program):
            return ""
        for server, answer in self.job_servers.registered(serving.servers).items():
            served = _served(answer, name, pids, status)
            if served or serving.ours:
                lacking = wanted - served
                if lacking or not (served or serving.wanted - wanted):
                    what = ", ".join(sorted(lacking)) or "any function"
                    return f"is not registered with {server} for {what}"
                continue
            now = answer.others
            needed = {function: 1 for function in wanted}
            needed.update(serving.others.get(server, {}))
            for function, number in sorted(needed.items()):
                if now.get(function, 0) < number:
                    return (
                        f"left {server} with {now.get(function, 0)} workers for {function}, and there were "
                        f"{number}"
                    )
        return ""

    def _paused_words(self):
        try:
            names = os.listdir(self._paused)
        except OSError:
            return set()
        functions = [percent.decoded(name) for name in names]
        found = {name.decode(errors="replace") for name in functions if name is not None}
        self._paused_seen |= found
        return words(found)

    def warnings(self):
        """Return what was left out of the check, as sentences."""
        result = [
            f"The job server {server} did not answer, so it is not known whether the workers are registered "
            f"there: {reason}"
            for server, reason in sorted(self.job_servers.down.items())
        ]
        if self._paused_seen:
            names = ", ".join(sorted(map(ascii, self._paused_seen)))
            result.append(
                f"These functions are paused on this host, so workers need not serve them: {names}"
            )
        return result

    def fail(self, section, process, reason):
        """Raise StartFailed for the process."""
        raise StartFailed(
            f"{process.full_name} does not come up: {reason}",
            process=process.full_name,
            reason=reason,
            output=self._supervisord.last_output(process.full_name),
        )


class _Look:
    """What was seen of one process while it was waited for."""

    def __init__(self, pid, now):
        self.pid = pid
        self.since = now
        self.ends = 0
        self.worked = False
        self.status_due = now


def _served(answer, name, pids, status):
    """Return the words of the functions that the worker is registered for."""
    by_pid = answer.ours.get(name, {})
    found = set().union(*(by_pid[pid] for pid in pids & by_pid.keys()))
    if status is not None:
        found |= answer.ids.get(status["client_id"], set())
    return found
