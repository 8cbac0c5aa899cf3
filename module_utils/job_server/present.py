# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges one host's Gearman job server.

The order is what makes it safe: check every value, the port and the jobs that a restart would
lose; wait for those that shall be waited for; only then write and restart; when the new server
does not answer, the old files and the old server come back.
"""

from __future__ import annotations

import contextlib
import fnmatch
import grp
import json
import os
import pwd
import tempfile
import time
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..gearvisor.admin import Admin
from ..gearvisor.errors import GearmanError
from ..host import packages, release
from ..host.files import diffs, read_text, restore_text, write_text
from ..keeper import choice
from ..supervisor.requirements import make_directories, remove_directories
from . import config, drain, ports, queues, running, service
from .restart import as_json, decide, jobs_text

PACKAGE = "gearman-job-server"


class Request(NamedTuple):
    """What the job server shall be; the names are the module's options."""

    settings: config.Settings
    state: str = "present"
    version: str = None
    restart: str = "auto"
    drain_timeout: int = 300
    service_manager: str = "auto"
    ready_timeout: int = 30


class Files(NamedTuple):
    """{path: text} before and after; None is a file that is not there or shall go."""

    before: dict
    after: dict

    def changed(self):
        return {path: new for path, new in self.after.items() if new != self.before[path]}


class NotReady(GearvisorError):
    """The server does not answer."""


def converge(request, run, check_mode=False):
    """Make the host's job server what *request* says; return the module's result.

    *run* is like AnsibleModule.run_command.
    Raises GearvisorError (InvalidOption for the user's input) with nothing changed, or after the
    old files and server have been put back.
    """
    if os.geteuid() != 0:
        raise GearvisorError(
            "This manages a service of the host and must run as root. Set become: true"
        )
    release.check_supported()
    states = {"absent": _Absence, "stopped": _Stop}
    return states.get(request.state, _Presence)(request, run, check_mode).converge()


class _Convergence:
    """What all states have in common."""

    def __init__(self, request, run, check_mode):
        self.request = request
        self.run = run
        self.check_mode = check_mode
        self.warnings = []
        self.keeper = choice.choose(
            service.service(request.settings, run), request.service_manager, run, check_mode
        )
        self.installed = packages.installed_versions(run, [PACKAGE]).get(PACKAGE)
        self.current = running.look(self.keeper.process())

    def _decide(self, queue_after):
        """Return the Decision on the running server; *queue_after* is the queue that then is."""
        queue, jobs = self.current.started.queue, self.current.jobs
        kept = queue.survives and queue.same_jobs(queue_after)
        decision = decide(self.request.restart, jobs, kept, queue.holds)
        cut = sum(status.running for status in (jobs or {}).values())
        if decision.lost and queue.survives:
            self.warnings.append(
                f"The jobs lost to the new queue stay in the old one ({queue.path or queue.type})"
            )
        if kept and cut and decision.how == "restart":
            self.warnings.append(
                f"{cut} job{'' if cut == 1 else 's'} ran when gearmand had to end: those in the background "
                "run again, and the clients of others have to submit them again"
            )
        return decision

    @contextlib.contextmanager
    def _closed(self, decision, unchanged):
        """For the block that ends the server, close it to jobs and wait for those it has, if so decided.

        *unchanged* ends the message of a drain that takes too long.
        """
        if decision is None or decision.how != "drain":
            yield
            return
        seconds = self.request.drain_timeout
        limits = json.loads(read_text(config.MAX_QUEUE) or "{}")
        try:
            with drain.drained(self.current.admin, seconds, limits):
                yield
        except drain.Drains as error:
            raise InvalidOption(
                "drain_timeout",
                seconds,
                f"seconds have passed, and gearmand still has {jobs_text(error.left)}",
                f"It takes new jobs again. {unchanged}. See with gearman_info whether workers serve these "
                "functions, and run this again with more time, or with restart: force",
                left=as_json(error.left),
            ) from None
        except (GearmanError, ValueError) as error:
            raise GearvisorError(
                f"restart: {self.request.restart!r} could not close gearmand to new jobs: {error}. "
                f"{unchanged}. Run this again, or use force"
            ) from error

    def _write(self, texts):
        for path, text in texts.items():
            if text is None:
                restore_text(path, None, 0)
                with contextlib.suppress(OSError):
                    os.rmdir(os.path.dirname(path))
                continue
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            if path == config.CONFIG:
                # gearmand reads it as its own user; it may hold a database's password.
                write_text(path, text, 0o640, 0, _gearman()[1])
            else:
                write_text(path, text, 0o644)

    def _diff(self, files, actions, others=()):
        shown = diffs(files.before, files.changed(), queues.without_secrets)
        prepared = [{"prepared": "\n".join(actions) + "\n"}] if actions else []
        return [*shown, *others, *prepared]


def _ending(verb, decision):
    """Return what is done to a running server, in words."""
    if decision.how == "drain":
        return f"{verb} gearmand once its jobs are done"
    lost = f", losing {jobs_text(decision.lost)}" if decision.lost else ""
    return f"{verb} gearmand{lost}"


class _Presence(_Convergence):
    """state: present and restarted."""

    def converge(self):
        settings = self.request.settings
        ports.check_privilege(settings.port)
        addresses = ports.local_addresses(settings.listen)
        if self.current is None:
            ports.check_free(addresses, settings.port)
        else:
            ports.check_free(
                addresses, settings.port, self.current.process, self.current.started.port
            )
        files = self._files()
        wanted = self._wanted()
        self._check_version(wanted)
        if self.installed:
            self._check_arguments(files)
        preview = self.keeper.preview(True)
        redefined = bool(wanted) or preview.redefines or self.request.state == "restarted"
        decision = self._decision(files, redefined)
        actions = self._actions(wanted, preview.lines, decision)
        changed = bool(files.changed() or actions)
        if not self.check_mode and changed:
            self._apply(files, wanted, decision)
        return self._result(changed, files, actions, decision, preview.diffs)

    def _files(self):
        settings = self.request.settings
        if self.keeper.manager == "supervisor" and settings.memory_max is not None:
            raise InvalidOption(
                "memory_max",
                settings.memory_max,
                "needs systemd: Supervisor limits no memory",
                "Leave it out on this host",
            )
        hard_limit = self.keeper.hard_file_limit()
        after = {
            config.CONFIG: config.config_text(settings, config.own_limit(settings, hard_limit)),
            config.MAX_QUEUE_SCRIPT: config.max_queue_script(),
            **self.keeper.files(),
        }
        before = {path: read_text(path) for path in after}
        for path, found in before.items():
            if found is not None and not config.is_ours(found):
                raise GearvisorError(
                    f"{path} was not written by this module, so it is left alone. Move it away if this "
                    "module shall manage the job server; its settings then come from the options"
                )
        return Files(before, after)

    def _wanted(self):
        """Return what apt-get has to be asked for."""
        version = self.request.version
        if version == config.LATEST:
            version = packages.candidate(self.run, PACKAGE) if self.installed else None
        return packages.missing(
            {PACKAGE: self.installed} if self.installed else {}, {PACKAGE: version}
        )

    def _check_version(self, wanted):
        """In check mode, predict what apt-get would say to a version."""
        if wanted and self.request.version not in (None, config.LATEST) and self.check_mode:
            known = self._known_versions()
            if known and not fnmatch.filter(known, self.request.version):
                raise self._no_such_version(known)

    def _known_versions(self):
        _rc, out, _err = self.run(["apt-cache", "madison", PACKAGE])
        return [line.split("|")[1].strip() for line in out.splitlines() if line.count("|") >= 2]

    def _no_such_version(self, known):
        return InvalidOption(
            "version",
            self.request.version,
            f"of {PACKAGE} is not known to apt on this host",
            f"It has: {', '.join(dict.fromkeys(known)) or 'none'}. Use one of these, the beginning of one "
            "and '*', or leave it out",
            versions=known,
        )

    def _check_arguments(self, files):
        """Let gearmand itself read the configuration, as its own user. Raises GearvisorError."""
        text = files.after[config.CONFIG]
        if text == files.before[config.CONFIG]:
            return
        with tempfile.NamedTemporaryFile("w", prefix="gearmand-", suffix=".conf") as candidate:
            os.fchown(candidate.fileno(), 0, _gearman()[1])
            os.fchmod(candidate.fileno(), 0o640)
            candidate.write(text)
            candidate.flush()
            rc, out, err = self.run(
                [*_as_gearman(), config.GEARMAND, "--check-args", f"--config-file={candidate.name}"]
            )
        if rc != 0:
            raise GearvisorError(
                f"gearmand refuses the configuration: {(err or out).strip()}. Nothing was written; "
                "correct that option"
            )

    def _decision(self, files, redefined):
        """Return the Decision, or None when what runs is as it shall be or nothing runs."""
        current = self.current
        if current is None:
            return None
        stale = any(
            config.needs_restart(path, current.files.get(path, files.before[path]), text)
            for path, text in files.after.items()
        )
        other = current.process.argv() != self.keeper.command or current.process.replaced()
        if not (stale or other or redefined):
            return None
        return self._decide(self.request.settings.queue)

    def _actions(self, wanted, todo, decision):
        actions = [f"install {specification}" for specification in wanted] + list(todo)
        if self.current is None:
            actions.append("start gearmand")
        elif decision is not None and decision.how != "leave":
            actions.append(_ending("restart", decision))
        return actions

    def _apply(self, files, wanted, decision):
        self._install(wanted)
        if wanted:
            self._check_arguments(files)
        made = self._make_queue_directory()
        was_enabled = bool(self.installed) and self.keeper.enabled()
        done = (
            f"Nothing was changed but the package, {wanted[0]}" if wanted else "Nothing was changed"
        )
        with self._closed(decision, done):
            try:
                if files.changed():
                    running.take_note(self.current, files.before)
                    self._write(files.changed())
                    self.keeper.reread()
                self._bring_up(decision)
            except (GearvisorError, OSError) as error:
                back = self._roll_back(files, was_enabled)
                remove_directories(made)
                details = getattr(error, "details", {})
                log = details.get("log")
                said = f". The last lines of its log: {log}" if log else ""
                raise GearvisorError(f"{error}. {back}{said}", **details) from error

    def _install(self, wanted):
        if not wanted:
            return
        option = (
            f"version: {self.request.version!r}" if self.request.version else "gearman_job_server"
        )
        try:
            packages.install(self.run, wanted, option)
        except GearvisorError:
            known = self._known_versions()
            if self.request.version and known and not fnmatch.filter(known, self.request.version):
                raise self._no_such_version(known) from None
            raise

    def _make_queue_directory(self):
        """Make the directory of a queue file if it is missing; gearman must be able to write there.

        SQLite makes its journal beside the file. Returns the directories made.
        """
        queue = self.request.settings.queue
        if queue.path is None:
            return []
        directory = os.path.dirname(queue.path)
        made = []
        if not os.path.lexists(directory):
            made = make_directories({directory: config.USER})
            os.chmod(directory, 0o750)
        for path in (directory, queue.path):
            missing = path == queue.path and not os.path.lexists(path)
            if not missing and self.run([*_as_gearman(), "test", "-w", path])[0] != 0:
                remove_directories(made)
                raise InvalidOption(
                    "queue.path",
                    queue.path,
                    f"cannot be used: user {config.USER} may not write to {path}",
                    f"Give {config.USER} that right and access to what is above it, or choose another path",
                )
        return made

    def _bring_up(self, decision):
        if self.current is not None and (decision is None or decision.how == "leave"):
            self.keeper.prepare()
            return
        if self.current is None:
            self.keeper.start()
            self._wait_ready(self._address())
        else:
            self.keeper.restart()
            self._wait_ready(self._address(), self.current.process)
        running.forget_note()

    def _address(self):
        return config.client_address(self.request.settings.listen, self.request.settings.port)

    def _wait_ready(self, address, old=None):
        """Wait until a gearmand other than *old* answers; return its version."""
        deadline = time.monotonic() + self.request.ready_timeout
        reason = "it does not run"
        while True:
            process = self.keeper.process()
            if process is not None and (old is None or process.identity() != old.identity()):
                try:
                    with Admin(address, running.ADMIN_SECONDS) as admin:
                        return admin.version()
                except GearmanError as error:
                    reason = str(error)
            elif self.keeper.crashed():
                reason = "it ended at once"
                break
            if time.monotonic() >= deadline:
                reason += f", {self.request.ready_timeout} s (ready_timeout) after its start"
                break
            time.sleep(0.1)
        raise NotReady(
            f"gearmand does not answer on {address}: {reason}", log=self.keeper.last_lines()
        )

    def _roll_back(self, files, was_enabled):
        """Put the old files and the old server back; return a sentence that says so."""
        try:
            self._write({path: files.before[path] for path in files.changed()})
            self.keeper.reread()
            if self.current is None:
                if was_enabled:
                    self.keeper.stop()
                else:
                    self.keeper.remove()
                running.forget_note()
                return "It was stopped, and the old files are back"
            process = self.keeper.process()
            if process is not None and process.pid == self.current.process.pid:
                return "The old files are back, and the server was not touched"
            self.keeper.restart()
            self._wait_ready(self.current.started.address)
            running.forget_note()
        except Exception as error:
            return f"The old server could not be put back whole: {error}"
        return "The old configuration is back, and the server runs with it"

    def _result(self, changed, files, actions, decision, diffs):
        pending = decision is not None and decision.how == "leave"
        if pending:
            diffs = ()
            self.warnings.append(
                "gearmand still runs as before: restart: never leaves its restart to you"
            )
        elif decision is not None and decision.how == "restart" and self.current.jobs is None:
            self.warnings.append(
                "gearmand did not answer before it was ended, so what it held is not known"
            )
        queue = self.request.settings.queue
        if queue.path and f"{queue.path}/".startswith(f"{config.PURGED}/"):
            self.warnings.append(
                f"queue.path: a purge of {PACKAGE} deletes {config.PURGED} with the queue"
            )
        address = self.current.started.address if pending else self._address()
        version = self._version(address, once=self.check_mode or pending)
        if not self.check_mode:
            self._check_file_limit()
        restarted = decision is not None and decision.how != "leave"
        package_version = self.installed
        if changed and not self.check_mode:
            package_version = packages.installed_versions(self.run, [PACKAGE]).get(PACKAGE)
        return {
            "changed": changed,
            "server": self._address(),
            "version": version,
            "package_version": package_version,
            "service_manager": self.keeper.manager,
            "files": sorted([*files.changed(), *(diff["after_header"] for diff in diffs)]),
            "actions": actions,
            "workers": self.current.workers if self.current else {},
            "restarted": restarted,
            "restart_pending": pending,
            "lost": as_json(decision.lost) if decision else {},
            "warnings": self.warnings,
            "diff": self._diff(files, actions, diffs),
        }

    def _version(self, address, once):
        """Return the version that the server says; None when it is asked only *once* in vain."""
        if not once:
            return self._wait_ready(address)
        with contextlib.suppress(GearmanError), Admin(address, running.ADMIN_SECONDS) as admin:
            return admin.version()
        return None

    def _check_file_limit(self):
        wanted, process = self.request.settings.file_descriptors, self.keeper.process()
        limit = process.file_limit() if process else None
        if wanted and limit and limit < wanted and self.request.restart != "never":
            self.warnings.append(
                f"file_descriptors: this host allows gearmand only {limit} of {wanted}"
            )


class _Stop(_Convergence):
    """state: stopped."""

    def converge(self):
        decision = None
        if self.current is not None:
            decision = self._decide(self.current.started.queue)
            if decision.how == "leave":
                raise InvalidOption(
                    "restart", "never", "leaves gearmand running", "Use auto, drain or force"
                )
        actions = [_ending("stop", decision)] if decision else []
        if actions and not self.check_mode:
            with self._closed(decision, "It was not stopped"):
                self.keeper.stop()
            running.forget_note()
        return {
            "changed": bool(actions),
            "service_manager": self.keeper.manager,
            "files": [],
            "actions": actions,
            "workers": self.current.workers if self.current else {},
            "lost": as_json(decision.lost) if decision else {},
            "warnings": self.warnings,
            "diff": self._diff(Files({}, {}), actions),
        }


class _Absence(_Convergence):
    """state: absent."""

    def converge(self):
        files = self._files()
        preview = self.keeper.preview(False)
        decision = self._decision()
        actions = self._actions(preview.lines, decision)
        changed = bool(files.changed() or actions)
        if not self.check_mode and changed:
            self._apply(files, decision)
        return {
            "changed": changed,
            "service_manager": self.keeper.manager,
            "files": sorted([*files.changed(), *(diff["after_header"] for diff in preview.diffs)]),
            "actions": actions,
            "lost": as_json(decision.lost) if decision else {},
            "warnings": self.warnings,
            "diff": self._diff(files, actions, preview.diffs),
        }

    def _files(self):
        paths = [config.CONFIG, config.MAX_QUEUE_SCRIPT, *self.keeper.files()]
        before = {path: read_text(path) for path in paths}
        ours = {
            path: text for path, text in before.items() if text is not None and config.is_ours(text)
        }
        limits = read_text(config.MAX_QUEUE)
        if limits is not None:
            ours[config.MAX_QUEUE] = limits
        for path in paths:
            if before[path] is not None and path not in ours:
                self.warnings.append(f"{path} was not written by this module and stays")
        return Files(ours, dict.fromkeys(ours))

    def _decision(self):
        if self.current is None:
            return None
        if self.request.restart == "never":
            raise InvalidOption(
                "restart",
                "never",
                "leaves gearmand running, so it cannot go",
                "Use auto, drain or force",
            )
        queue = self.current.started.queue
        decision = self._decide(queue)
        if queue.survives and self.current.jobs:
            self.warnings.append(
                f"The queue stays, with {jobs_text(self.current.jobs)}: {queue.path or queue.type}"
            )
        return decision

    def _actions(self, todo, decision):
        actions = [_ending("stop", decision)] if decision is not None else []
        actions += todo
        if self.installed:
            actions.append(f"remove {PACKAGE}")
        return actions

    def _apply(self, files, decision):
        with self._closed(decision, "Nothing was removed"):
            self.keeper.remove()
            self._write(files.after)
            self.keeper.reread()
        running.forget_note()
        if self.installed:
            packages.remove(self.run, [PACKAGE])


def _gearman():
    """Return (uid, gid) of the package's user."""
    return pwd.getpwnam(config.USER).pw_uid, grp.getgrnam(config.USER).gr_gid


def _as_gearman():
    """Return the beginning of a command line that runs the rest as the package's user."""
    uid, gid = _gearman()
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
