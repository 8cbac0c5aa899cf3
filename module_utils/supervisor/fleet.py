# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converges the Supervisor programs of one fleet on one host.

The order is what makes it safe: render and check everything, let Supervisor's
own parser read the result, plan, and only then write and act; when a new
definition does not start, the old files and processes come back.
"""

from __future__ import annotations

import collections
import configparser
import glob
import hashlib
import http.client
import inspect
import json
import os
import re
import types
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host.files import diffs, read_text, restore_text
from . import config_file, options, parser_check, plan, requirements, rollout, rpc, sections
from .rpc import ConfigRefused, SupervisordUnavailable
from .warnings import cautions

CONFIG = "/etc/supervisor/supervisord.conf"
DIRECTORY = "/etc/supervisor/conf.d"
SUPERVISORD = "/usr/bin/supervisord"
# Program files may hold secrets in environment=.
_FILE_MODE = 0o640
_READY_SECONDS = 30
# Where Supervisor's error texts quote an environment= line.
_ENVIRONMENT_IN_ERRORS = (
    re.compile(r"(?<=key/value pairs in value ).*?(?= in section '|$)", re.DOTALL),
    re.compile(r"(?<=Format string ).*(?= for 'environment')", re.DOTALL),
)
# The sections that Supervisor makes a process group of.
_GROUP_KINDS = ("program", "group", "eventlistener", "fcgi-program")


class Request(NamedTuple):
    """What the fleet shall be. *programs* is {name: {option: value}} as the user wrote it, or a list
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


class Host(NamedTuple):
    """Where Supervisor lives on this host; *run* is like AnsibleModule.run_command."""

    run: object
    config: str = CONFIG
    directory: str = DIRECTORY
    supervisord: str = SUPERVISORD


class Files(NamedTuple):
    """The fleet's files: {path: text}; None is a file that is not there or shall go."""

    before: dict
    after: dict

    def changed(self):
        return {path: new for path, new in self.after.items() if new != self.before.get(path)}


def converge(request, where, check_mode=False):
    """Make the host's programs what *request* says; return the module's result.

    Raises GearvisorError (InvalidOption for the user's input) with nothing
    changed, or after everything has been put back.
    """
    programs = options.typed_programs(
        {parameter: getattr(request, parameter) for parameter in options.PARAMETERS.values()},
        request.defaults,
    )
    new_by_program = {
        name: sections.sections(name, program, request.layout, kind)
        for name, (kind, program) in programs.items()
    }
    new = {
        section.group: section
        for its_sections in new_by_program.values()
        for section in its_sections
    }
    sections.check_shared_logs(new.values())
    files = _files(request, where, new_by_program, check_mode)
    old = _sections_in(files.before)
    if not check_mode:
        check_installed(where)
    supervisord = connect(where, check_mode)
    new_users = requirements.missing_users(request.create_users)
    warnings = _check_host(new.values(), supervisord, new_users, check_mode)
    missing = requirements.missing_directories(new.values())
    if missing and not request.create_directories:
        raise InvalidOption(
            "create_directories",
            False,
            f"leaves out {', '.join(missing)}",
            "Make them first, or set it to true",
        )
    drifted, broken = _drift(supervisord)
    if os.path.exists(where.supervisord) and (files.changed() or broken):
        users = new_users
        if check_mode:
            users = [
                section.options["user"] for section in new.values() if "user" in section.options
            ]
        owners = _dry_run(where, files, missing, users, supervisord)
        _check_owners(where, files, new, owners)
    state = plan.State(_loaded(supervisord), drifted)
    decided = plan.make_plan(old, new, state, _programs_to_restart(request, files, new_by_program))
    for name, (kind, program) in programs.items():
        if os.path.join(where.directory, f"{name}.conf") in files.changed():
            warnings += cautions(f"{options.PARAMETERS[kind]}.{name}", program)
    foreign = sorted(drifted - set(old) - set(new))
    if foreign:
        warnings.append(f"Edits of others are pending and were left alone: {', '.join(foreign)}")
    result = _result(files, decided, missing, new_users, warnings)
    if check_mode:
        return result
    loaded = state.groups
    if result["changed"]:
        requirements.make_users(where.run, new_users)
        try:
            decided = _apply(request, supervisord, files, decided, old, new, missing)
        except BaseException:
            requirements.remove_users(where.run, new_users)
            raise
        result["plan"] = decided.as_result()
        # Asked again only now: it is what takes longest with a thousand processes.
        loaded = _loaded(supervisord)
    result["processes"] = [
        {"name": process.full_name, "state": process.state, "pid": process.pid}
        for group, processes in loaded.items()
        if group in new
        for process in processes
    ]
    return result


def _files(request, where, new_by_program, check_mode):
    """Return the fleet's Files; refuses a path that is somebody else's."""
    before = {}
    for path in glob.glob(os.path.join(where.directory, "*.conf")):
        found = _own_text(path, request.fleet)
        if found is not None:
            before[path] = found
    fingerprint = fingerprint_of_paths(request.fingerprint, check_mode)
    after = {}
    for name, its_sections in new_by_program.items():
        path = os.path.join(where.directory, f"{name}.conf")
        if path not in before and os.path.lexists(path):
            raise InvalidOption(
                "programs",
                name,
                f"would replace {path}, which this fleet ({request.fleet}) did not write",
                "Move that file away once its programs are stopped, or choose another name",
            )
        after[path] = config_file.render_file(
            request.fleet, {section.title: section.options for section in its_sections}, fingerprint
        )
    leftovers = {path: None for path in before if path not in after} if request.purge else {}
    kept = {path for path in before if path in after or path in leftovers}
    return Files({path: before[path] for path in sorted(kept)}, {**after, **leftovers})


def _own_text(path, fleet):
    try:
        found = read_text(path)
    except (UnicodeDecodeError, OSError):
        return None
    return found if found is not None and config_file.fleet_of(found) == fleet else None


def _sections_in(files):
    """Return {group: Section} of rendered files; a hand-damaged file counts as empty."""
    result = {}
    for path, content in files.items():
        try:
            parsed = config_file.parse_sections(content)
        except configparser.Error:
            continue
        program = os.path.basename(path)[: -len(".conf")]
        for title, values in parsed.items():
            kind, _colon, group = title.partition(":")
            result[group] = sections.Section(program, group, values, kind)
    return result


def check_installed(where):
    """Raise GearvisorError when Supervisor is not on this host."""
    if not os.path.exists(where.supervisord):
        raise GearvisorError(
            f"Supervisor is not on this host: there is no {where.supervisord}. "
            "Use the role supervisor first, or install Debian's package supervisor"
        )


def connect(where, check_mode):
    """Return a ready Supervisord, or None when it is not installed.

    One that does not answer is None in check mode, and SupervisordUnavailable otherwise.
    """
    if not os.path.exists(where.supervisord):
        return None
    supervisord = rpc.of_config(where.config)
    try:
        supervisord.wait_ready(0 if check_mode else _READY_SECONDS)
    except SupervisordUnavailable:
        if not check_mode:
            raise
        return None
    return supervisord


def _check_host(its_sections, supervisord, new_users, check_mode):
    """Refuse what cannot run here.

    In check mode these are warnings: an earlier task of the same play may be
    what would create the user or install the command.
    """
    path = _environment(supervisord).get("PATH", os.defpath)
    warnings = {}
    for section in its_sections:
        for problem in requirements.problems(section, path, new_users):
            if not check_mode:
                raise problem
            warnings[str(problem)] = None
    return list(warnings)


def _environment(supervisord):
    """Return supervisord's own environment, in which its files are expanded."""
    if supervisord is None:
        return dict(os.environ)
    try:
        with open(f"/proc/{supervisord.pid()}/environ", "rb") as file:
            pairs = [
                entry.decode(errors="surrogateescape").partition("=")
                for entry in file.read().split(b"\0")
            ]
    except OSError:
        return dict(os.environ)
    return {name: value for name, separator, value in pairs if separator}


def _drift(supervisord):
    """Return (groups whose definition on disk is not what is loaded, whether the files are broken)."""
    if supervisord is None:
        return frozenset(), False
    try:
        delta = supervisord.reload_config()
    except ConfigRefused:
        return frozenset(), True
    return delta.added | delta.changed | delta.removed, False


def _loaded(supervisord):
    groups = collections.defaultdict(list)
    for process in supervisord.processes() if supervisord else ():
        groups[process.group].append(process)
    return dict(groups)


def _dry_run(where, files, missing, users, supervisord):
    """Let Supervisor's own parser read the files as they would be. Raises GearvisorError.

    *missing* directories and *users* are taken as existing. Returns {section: [files that define it]}.
    """
    request = {
        "config": where.config,
        "overlay": files.after,
        "directories": list(missing),
        "users": list(users),
        "environment": _environment(supervisord),
    }
    source = inspect.getsource(parser_check)
    rc, out, err = where.run(
        [*_interpreter(where.supervisord), "-c", source],
        data=json.dumps(request),
    )
    if rc != 0:
        raise GearvisorError(
            f"Supervisor's own parser could not be run: {err.strip() or out.strip()}. "
            f"See that {where.supervisord} --version works on the host"
        )
    answer = json.loads(out)
    if answer["error"]:
        raise GearvisorError(_explained(answer["error"], files))
    return answer["owners"]


def _check_owners(where, files, new, owners):
    """Refuse a group that is also somebody else's. *owners* is {section: [files that define it]}."""
    by_group = collections.defaultdict(list)
    for title, paths in owners.items():
        kind, _colon, group = title.partition(":")
        if kind in _GROUP_KINDS:
            by_group[group] += [f"[{title}] in {path}" for path in paths]
    for section in new.values():
        found = by_group.get(section.group, [])
        if not found:
            raise GearvisorError(
                f"{where.config} does not include the files in {where.directory}, so Supervisor would never "
                f"read them. Add 'files = {where.directory}/*.conf' to its [include]. Nothing was written"
            )
        if len(found) > 1:
            raise GearvisorError(
                f"programs: {section.group} would be defined twice, as {' and '.join(found)}; Supervisor "
                "mixes the two up silently. Rename the program, or remove the other definition. "
                "Nothing was written"
            )


def _interpreter(supervisord):
    """Return the command that runs supervisord's own Python, from its first line."""
    with open(supervisord, "rb") as file:
        first = file.readline().decode(errors="replace").strip()
    return first[2:].split() if first.startswith("#!") else ["/usr/bin/python3"]


def _explained(error, files):
    """Say whose file is wrong, without the environment values that Supervisor's text may hold."""
    for shown in _ENVIRONMENT_IN_ERRORS:
        error = shown.sub("(not shown)", error)
    match = re.search(r"\(file: '([^']+)'\)", error)
    if match and match.group(1) not in files.after:
        return (
            f"{match.group(1)} is broken, and Supervisor reads all of its files or none: {error}. "
            "That file is not ours: correct or remove it, then run this again. Nothing was written"
        )
    return f"Supervisor refuses the programs: {error}. Correct that option; nothing was written"


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


def fingerprint_of_paths(paths, check_mode=False):
    """Return a digest of the content of files and directories, or None for no paths.

    Names and contents count, times and modes do not. Of a path that is a link,
    as to a release or a virtual environment, only where it leads counts.
    Raises InvalidOption for a path that does not exist; in check mode an
    earlier task may be what deploys it.
    """
    if not paths:
        return None
    digest = hashlib.sha256()
    for path in paths:
        digest.update(os.fsencode(path) + b"\0")
        if os.path.islink(path):
            digest.update(os.fsencode(os.readlink(path)))
        elif os.path.exists(path):
            _digest_content(digest, path)
        elif not check_mode:
            raise InvalidOption(
                "fingerprint", path, "does not exist", "Deploy the code first, or correct the path"
            )
    return digest.hexdigest()


def _digest_content(digest, path):
    files = [path] if os.path.isfile(path) else []
    for directory, below, names in os.walk(path):
        # Python writes its caches there when the code first runs.
        below[:] = sorted(name for name in below if name != "__pycache__")
        files += [os.path.join(directory, name) for name in sorted(names)]
    for name in files:
        digest.update(os.fsencode(name) + b"\0")
        if os.path.isfile(name):
            with open(name, "rb") as file:
                digest.update(hashlib.sha256(file.read()).digest())


def _result(files, decided, missing, new_users, warnings):
    changed_files = files.changed()
    diff = diffs(files.before, changed_files, config_file.masked)
    lines = [f"create user: {user}" for user in new_users]
    lines += [f"make directory: {directory}" for directory in missing] + decided.lines()
    if lines:
        diff.append({"prepared": "\n".join(lines) + "\n"})
    return {
        "changed": bool(changed_files or missing or new_users or decided.touches_processes),
        "files": sorted(changed_files),
        "directories": sorted(missing),
        "users": new_users,
        "plan": decided.as_result(),
        "warnings": warnings,
        "diff": diff,
    }


def _apply(request, supervisord, files, decided, old, new, missing):
    """Write the files and carry the plan out; return the plan that was. Puts all back on failure."""
    made = requirements.make_directories(missing)
    pace = {
        "batch": request.batch,
        "max_unavailable": request.max_unavailable,
        "wait": request.wait,
        "wait_timeout": request.wait_timeout,
    }
    try:
        _write(files.changed())
        decided = plan.confirmed(decided, supervisord.reload_config(), old, new)
        rollout.carry_out(supervisord, decided, old, new, **pace)
    except BaseException as error:
        # Without a changed file the definition is the one on disk: there is none to go back to.
        back = ""
        if files.changed():
            back = _roll_back(supervisord, files, old, new, {**pace, "wait": True})
        requirements.remove_directories(made)
        if not isinstance(error, (GearvisorError, OSError, http.client.HTTPException)):
            raise
        raise _failure(error, back) from error
    return decided


def _failure(error, back):
    """Return the GearvisorError for what happened and what became of it."""
    if isinstance(error, GearvisorError):
        details, sentences = error.details, [str(error)]
    else:
        details, sentences = {}, [f"supervisord or the disk failed in the middle of it: {error}"]
    if back:
        sentences.append(back)
    if "output" in details:
        output = details["output"]
        sentences.append(f"Its last output:\n{output}" if output else "It wrote nothing to its log")
    return GearvisorError(". ".join(sentences), **details)


def _write(texts):
    for path, content in texts.items():
        restore_text(path, content, _FILE_MODE)


def _roll_back(supervisord, files, old, new, pace):
    """Put the old files and processes back; return a sentence that says so."""
    try:
        _write({path: files.before.get(path) for path in files.changed()})
        drifted, _broken = _drift(supervisord)
        undo = plan.make_plan(new, old, plan.State(_loaded(supervisord), drifted))
        # Only what runs differently from the old files is taken back.
        undo = undo._replace(change=tuple(group for group in undo.change if group in drifted))
        rollout.carry_out(supervisord, undo, new, old, **pace)
    except Exception as error:
        return f"The old definition could not be put back whole: {error}"
    return "The old definition is back"


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
