# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges the Supervisor programs of one fleet on one host.

The order is what makes it safe: render and check everything, let Supervisor's
own parser read the result, plan, and only then write and act; when a new
definition does not start, the old files and processes come back.
"""

from __future__ import annotations

import os
import types
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host.changes import ChangeSet
from ..host.host import Host as TargetHost
from . import (
    config_file,
    findings,
    fingerprint,
    identity,
    log_places,
    options,
    ownership,
    places,
    plan,
    program_files,
    progress,
    release,
    requirements,
    rollout,
    rpc,
    sections,
    watch,
)
from .apply import Run
from .log_places import Surroundings
from .program_files import sections_in
from .readiness import PAUSED
from .rpc import PasswordWanted, SupervisordUnavailable
from .warnings import cautions

CONFIG = "/etc/supervisor/supervisord.conf"
DIRECTORY = "/etc/supervisor/conf.d"
SUPERVISORD = "/usr/bin/supervisord"
RUNTIME = "/run/gearvisor"
_READY_SECONDS = 30


class Request(NamedTuple):
    """What the fleet must be. *programs* is {name: {option: value}} as the user wrote it, or a list
    of such options with a name.

    *defaults* is {option: value} for programs that do not set it.
    *event_listeners* and *fcgi_programs* are like *programs*, without defaults.
    """

    programs: dict
    event_listeners: dict = types.MappingProxyType({})
    fcgi_programs: dict = types.MappingProxyType({})
    defaults: dict = types.MappingProxyType({})
    fleet: str = "default"
    layout: str = "processes"
    batch: int = 1
    max_unavailable: int = None
    fingerprint: tuple = ()
    restart: bool = False
    purge: bool = False
    wait: bool = True
    wait_timeout: int = 30
    create_directories: bool = True
    create_users: tuple = ()
    trusted_users: tuple = ()
    inventory_hostname: str = None
    stable: float = 0
    watch: float = 0
    watch_jobs: int = 20
    max_failures: float = 0.2
    min_jobs: int = 5

    def pace(self):
        """Return the rollout.Pace."""
        return rollout.Pace(
            self.batch,
            self.max_unavailable,
            self.wait,
            self.wait_timeout,
            self.stable,
            watch.Settings(self.watch, self.watch_jobs, self.max_failures, self.min_jobs),
        )


class Host(NamedTuple):
    """Where Supervisor and Gearvisor's files are on this host; *run* is like AnsibleModule.run_command."""

    run: object
    config: str = CONFIG
    directory: str = DIRECTORY
    supervisord: str = SUPERVISORD
    fleets: str = ownership.DIRECTORY
    runtime: str = RUNTIME
    paused: str = PAUSED
    failed: str = places.FAILED
    tmpfiles: str = places.TMPFILES
    group: str = places.GROUP
    drop_in: str = "/etc/systemd/system/supervisor.service.d/gearvisor.conf"


class Wanted(NamedTuple):
    """What the fleet has to be: its typed programs, their sections, the links of their releases."""

    programs: dict
    by_program: dict
    links: tuple
    warnings: list

    @property
    def sections(self):
        """{group: Section}"""
        return {
            section.group: section
            for its_sections in self.by_program.values()
            for section in its_sections
        }

    def functions(self):
        """Return {program: list} of the functions that the user gave."""
        return {
            name: program["functions"]
            for name, (_kind, program) in self.programs.items()
            if program.get("functions")
        }


def converge(request, where, check_mode=False):
    """Apply *request* to the host's programs; return the module's result.

    Raises GearvisorError (InvalidOption for the user's input) with nothing
    changed, or after everything has been put back.
    """
    identity.check(request.inventory_hostname)
    wanted = _wanted(request, check_mode)
    new = wanted.sections
    sections.check_shared_logs(new.values())
    logs = log_places.of_sections(new.values(), Surroundings(where.config))
    fingerprints = fingerprint.of_programs(wanted.programs, request.fingerprint, logs, check_mode)
    files = program_files.wanted(request, where, wanted, fingerprints)
    noted, restarting = ownership.read(ownership.path(where.fleets, request.fleet))
    old = {**noted, **sections_in(files.before)}
    if not check_mode:
        check_installed(where)
    supervisord = connect(where, check_mode)
    new_users = requirements.missing_users(request.create_users)
    surroundings = Surroundings(
        where.config,
        rpc.environment(supervisord),
        supervisord.pid() if supervisord else None,
        request.trusted_users,
    )
    warnings = wanted.warnings + _check_host(new.values(), surroundings, new_users, check_mode)
    missing = requirements.missing_directories(new.values(), surroundings)
    if missing and not request.create_directories:
        raise InvalidOption(
            "create_directories",
            False,
            f"leaves out {', '.join(missing)}",
            "Make them first, or set it to true",
        )
    drifted, broken = rpc.drift(supervisord)
    if os.path.exists(where.supervisord) and (files.changed() or broken):
        files = program_files.checked(
            request, where, wanted, files, missing, new_users, supervisord, check_mode
        )
        old = {**noted, **sections_in(files.before)}
    state = plan.State(rpc.loaded(supervisord), drifted)
    adopted = sections_in(files.adopted)
    unlisted = {
        group: section
        for group, section in findings.unlisted(request, where, wanted.programs, old, state).items()
        if group not in adopted
    }
    old = {group: section for group, section in old.items() if group not in unlisted}
    restart = _programs_to_restart(request, files, wanted.by_program)
    decided = plan.make_plan(old, new, state, restart, restarting)
    for name, (kind, program) in wanted.programs.items():
        if os.path.join(where.directory, f"{name}.conf") in files.changed():
            warnings += cautions(f"{options.PARAMETERS[kind]}.{name}", program)
    warnings += findings.about_others(drifted, noted, old, new, unlisted)
    warnings += findings.contradictions(where, new.values())
    warnings += findings.orphans(where, supervisord, check_mode)
    result = _result(files, decided, missing, new_users, warnings, wanted.links)
    if request.inventory_hostname:
        changes = ChangeSet(TargetHost(where.run))
        places.want(changes, where, request.fleet, places.users_of(new.values()))
        result["changed"] = result["changed"] or changes.changed
        result["files"] = sorted({*result["files"], *changes.paths()})
        result["diff"] += changes.diff()
    if check_mode:
        return result
    loaded = state.groups
    run = Run(request, supervisord, where, wanted, files, old, {**unlisted, **old})
    if result["changed"]:
        requirements.make_users(where.run, new_users)
        try:
            loaded, done = run.apply(decided, loaded, missing)
        except BaseException:
            requirements.remove_users(where.run, new_users)
            raise
        warnings += done.pop("warnings")
        result.update(done)
    else:
        run.note_owned(loaded)
        progress.remove(where.runtime)
    processes = [process for group in loaded if group in new for process in loaded[group]]
    result["processes"] = [
        {"name": process.full_name, "state": process.state, "pid": process.pid}
        for process in processes
    ]
    if wanted.links:
        result["release"]["processes"] = release.by_release(processes)
    return result


def _wanted(request, check_mode):
    """Return the Wanted of the request. Raises InvalidOption."""
    parameters = {name: getattr(request, name) for name in options.PARAMETERS.values()}
    programs = options.typed_programs(parameters, request.defaults)
    own = options.by_name("programs", request.programs)
    by_program, links, warnings = {}, {}, []
    for name, (kind, program) in programs.items():
        where = f"{options.PARAMETERS[kind]}.{name}"
        if program.get("release"):
            option = f"{where}.release"
            link = release.resolved(option, program["release"], check_mode)
            runs = release.applied(program, link)
            if runs is None and "release" in (own.get(name) or {}):
                warnings.append(
                    f"{option}: neither command, directory nor environment names {link.path}, so it has no "
                    "effect"
                )
            if runs is not None:
                if request.layout == "numprocs":
                    raise InvalidOption(
                        "layout",
                        request.layout,
                        f"replaces all processes of {name} at once, so a release cannot go in batches",
                        "Use layout: processes for programs with a release",
                    )
                if links.setdefault(link.path, link) != link:
                    raise InvalidOption(
                        f"{option}.target",
                        link.after,
                        f"is another release than {links[link.path].after}, and {link.path} can lead to one "
                        "only",
                        "Give both programs the same release, or each a link of its own",
                    )
                program = runs
                programs[name] = kind, program
            else:
                programs[name] = kind, {k: v for k, v in program.items() if k != "release"}
        by_program[name] = sections.sections(name, program, request.layout, kind)
        if request.inventory_hostname:
            by_program[name] = [
                identity.identified(section, request.inventory_hostname)
                for section in by_program[name]
            ]
    return Wanted(programs, by_program, tuple(links.values()), warnings)


def check_installed(where):
    """Raise GearvisorError when Supervisor is not on this host."""
    if not os.path.exists(where.supervisord):
        raise GearvisorError(
            f"Supervisor is not on this host: there is no {where.supervisord}. "
            "Use the role supervisor first, or install Debian's package supervisor",
            needs="supervisord",
        )


def connect(where, check_mode, seconds=None):
    """Return a ready Supervisord, or None when it is not installed.

    One that does not answer within *seconds* (30) is None in check mode, and SupervisordUnavailable
    otherwise.
    """
    if not os.path.exists(where.supervisord):
        return None
    supervisord = rpc.of_config(where.config)
    try:
        supervisord.wait_ready(0 if check_mode else _READY_SECONDS if seconds is None else seconds)
    except PasswordWanted:
        raise
    except SupervisordUnavailable:
        if not check_mode:
            raise
        return None
    return supervisord


def _check_host(its_sections, surroundings, new_users, check_mode):
    """Refuse what cannot run here.

    In check mode these are warnings: an earlier task of the same play may be
    what would create the user or install the command.
    """
    path = surroundings.environment.get("PATH", os.defpath)
    warnings = {}
    for section in its_sections:
        for problem in requirements.problems(section, path, new_users, surroundings):
            if not check_mode:
                raise problem
            warnings[str(problem)] = None
    return list(warnings)


def _programs_to_restart(request, files, new_by_program):
    if request.restart:
        return frozenset(new_by_program)
    return frozenset(
        os.path.basename(path)[: -len(".conf")]
        for path, after in files.changed().items()
        if after
        and path in files.before
        and config_file.fingerprint_of(after)
        not in (None, config_file.fingerprint_of(files.before[path]))
    )


def _result(files, decided, missing, new_users, warnings, links):
    changed_files = files.changed()
    diff = [
        {
            "before_header": path,
            "after_header": path,
            "before": config_file.masked(files.before.get(path) or ""),
            "after": config_file.masked(text or ""),
        }
        for path, text in changed_files.items()
    ]
    moves = [link for link in links if link.changes]
    lines = [f"create user: {user}" for user in new_users]
    lines += [f"make directory: {directory}" for directory in missing] + decided.lines()
    lines += [f"move link: {link.path} to {link.after}" for link in moves]
    lines += [f"keep: {path} as {path}.adopted" for path in files.adopted]
    if lines:
        diff.append({"prepared": "\n".join(lines) + "\n"})
    result = {
        "changed": bool(
            changed_files or missing or new_users or decided.touches_processes or moves
        ),
        "files": sorted(changed_files),
        "directories": sorted(missing),
        "users": new_users,
        "plan": decided.as_result(),
        "warnings": warnings,
        "diff": diff,
    }
    if links:
        one = len(links) == 1
        result["release"] = {
            "before": links[0].before if one else {link.path: link.before for link in links},
            "after": links[0].after if one else {link.path: link.after for link in links},
            "processes": {},
        }
    return result


class Preview(NamedTuple):
    """What converge would do: the files that change, their diffs, whether a process is replaced."""

    files: tuple
    diffs: tuple
    replaces: bool


def preview(request, where):
    """Return the Preview of converge; touches nothing."""
    result = converge(request, where, check_mode=True)
    diffs = tuple(entry for entry in result["diff"] if "prepared" not in entry)
    return Preview(tuple(result["files"]), diffs, bool(result["plan"]["changed"]))


def absent(fleet, where, check_mode=False):
    """Remove every program of the fleet; return the module's result."""
    return converge(Request(programs={}, fleet=fleet, purge=True), where, check_mode)
