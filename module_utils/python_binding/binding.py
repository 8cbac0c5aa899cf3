# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python binding: a virtual environment that is built aside and swapped in.

Virtual environments cannot be moved, so each is built where it stays, in
VENV-DIGEST, and VENV is a link to the one in use. The digest names everything
that went in, so an unchanged request is recognised by reading one link, and one
that was made before and is still there is taken up again as it is.

All of it is root's, at a place that only root can write to; environment.py builds it without root.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from typing import NamedTuple

from ..failure import InvalidOption
from ..host import directories, trust
from ..host.builder import Builder
from ..outcome import Outcome
from . import command, environment, interpreter
from .environment import PYGEARMAN
from .requirements import contents, credentials, without_credentials

_CONTROL = re.compile(r"[\0-\x1f\x7f\ud800-\udfff]")


class Request(NamedTuple):
    """*requirements* are lines of a pip requirements file; *python* is the interpreter's path.

    They come from the directory *wheelhouse*, or else from the package indexes,
    by default those of the host's pip configuration. *trusted_users*: names of users who may
    control what the options name, besides root. *command*: where to link bin/gearvisor.
    """

    state: str = "present"
    venv: str = "/opt/gearvisor/venv"
    binding: str = "gearvisor"
    requirements: tuple = ()
    python: str = "/usr/bin/python3"
    wheelhouse: str = None
    index_url: str = None
    extra_index_urls: tuple = ()
    trusted_users: tuple = ()
    command: str = None


def request_of(params):
    """Return the Request of the module's parameters."""
    given = {name: params[name] for name in Request._fields}
    return Request(**{n: tuple(v) if isinstance(v, list) else v for n, v in given.items()})


def converge(request, host, wheel):
    """Apply *request* to the virtual environment; return the Outcome.

    *wheel* is (file name, bytes) of our binding. Raises GearvisorError; the link then still leads to
    what it led to before.
    """
    check_mode = host.check_mode
    _check(request)
    before = os.path.basename(os.readlink(request.venv)) if os.path.islink(request.venv) else None
    if request.state == "absent":
        return _with_command(request, _absent(request, before, check_mode), check_mode)
    files = contents(request.requirements, check_mode, request.trusted_users)
    _check_wheelhouse(request, check_mode)
    with Builder(host.run) as builder:
        version = interpreter.ready(host.run, request.python, check_mode, builder.run)
    after = f"{os.path.basename(request.venv)}-{digest(request, wheel, version, files)}"
    target = os.path.join(os.path.dirname(request.venv), after)
    trusted = trust.user_ids(request.trusted_users)
    changed = before != after or not environment.works(request, host, target)
    if changed and not check_mode:
        directories.make(os.path.dirname(target), 0o755, os.geteuid(), os.getegid(), trusted)
        environment.provide(request, host, target, wheel, files)
        _swap(target, request.venv)
        _forget_older(request.venv, keep={after, before})
    return _with_command(request, _outcome(request, before, after, changed), check_mode)


def digest(request, wheel, python_version, files):
    """Return 12 hexadecimal digits that name what the virtual environment is made of.

    *files* is {path: bytes} of those that the requirements name. Where packages
    come from does not count: a mirror may move, and its password change.
    """
    binding = PYGEARMAN if request.binding == "pygearman" else hashlib.sha256(wheel[1]).hexdigest()
    parts = [str(python_version), request.python, request.binding, binding, *request.requirements]
    for path, content in sorted(files.items()):
        parts += [path, hashlib.sha256(content).hexdigest()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def secrets(request):
    """Return what must not be in any output: the passwords in URLs."""
    urls = [request.index_url or "", *request.extra_index_urls]
    return credentials([*urls, *request.requirements])


# --- What cannot work -------------------------------------------------------------------


def _check(request):
    # Lines of requirements are looked at one by one.
    for option, value in request._replace(requirements=())._asdict().items():
        for text in [value] if isinstance(value, str) else value or ():
            if _CONTROL.search(text):
                raise InvalidOption(
                    option, without_credentials(text), "holds a control character", "Correct it"
                )
    if not re.match(r"/[^\s\0]+[^\s\0/]\Z", request.venv):
        raise InvalidOption(
            "venv", request.venv, "is not an absolute path", "Use a path like /opt/gearvisor/venv"
        )
    if os.path.lexists(request.venv) and not os.path.islink(request.venv):
        raise InvalidOption(
            "venv",
            request.venv,
            "exists and is not a link, so it was not made here",
            "Remove it, or name another path",
        )
    _check_place(request)
    for option, urls in (
        ("index_url", [request.index_url] if request.index_url else []),
        ("extra_index_urls", request.extra_index_urls),
    ):
        if urls and request.wheelhouse:
            raise InvalidOption(
                "wheelhouse",
                request.wheelhouse,
                f"replaces every index, {option} included",
                f"Leave out one of wheelhouse and {option}",
            )
        for url in urls:
            _check_url(option, url)
            if url.startswith("file://"):
                trust.check(option, url, url[len("file://") :], request.trusted_users)


def _check_place(request):
    """Refuse a place that others can write to, or that keeps those out who are to work there."""
    directory = os.path.dirname(request.venv)
    trust.check(
        "venv",
        request.venv,
        directory,
        request.trusted_users,
        way_out="Use a path like /opt/gearvisor/venv, or trust its owner with trusted_users "
        "(gearman_trusted_users), who could then give the workers other code",
    )
    if request.command:
        trust.check(
            "command", request.command, os.path.dirname(request.command), request.trusted_users
        )
    for option, path in (("venv", request.venv), ("python", request.python)):
        closed = interpreter.closed_directory(path)
        if closed is not None and request.state == "present":
            raise InvalidOption(
                option,
                path,
                f"is below {closed}, which only its owner may enter",
                "Use a place where all users get to: workers of other users could not start there, nor "
                "can pip, which does not run as root",
            )


def _check_url(option, url):
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?|file:///\S+", url):
        raise InvalidOption(
            option,
            without_credentials(url),
            "is not the URL of a package index",
            "Write it like https://pypi.example.org/simple, with %20 for a space",
        )


def _check_wheelhouse(request, check_mode):
    path = request.wheelhouse
    if path is None or (check_mode and not os.path.lexists(path)):
        return  # an earlier task may be what deploys it
    if not os.path.isabs(path) or not os.path.isdir(path):
        raise InvalidOption(
            "wheelhouse",
            path,
            "is not a directory on this host",
            "Copy one there, made by 'pip download --dest WHEELHOUSE --requirement FILE'",
        )
    trust.check(
        "wheelhouse",
        path,
        path,
        request.trusted_users,
        way_out="Give it to root, or trust its owner with trusted_users (gearman_trusted_users)",
    )


# --- The environments -------------------------------------------------------------------


def _swap(target, link):
    """Make *link* lead to *target* in one step."""
    fresh = link + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(os.path.basename(target), fresh)
    os.replace(fresh, link)


def _forget_older(venv, keep):
    """Remove environments but those that *keep* names and those that processes still run from."""
    for path in _environments(venv):
        if os.path.basename(path) not in keep and not _runs_from(path):
            shutil.rmtree(path)


def _environments(venv):
    directory, name = os.path.split(venv)
    # Not those of venv-blue, whose names start the same.
    ours = re.compile(re.escape(name) + r"-[0-9a-f]{12}(\.old)?")
    paths = glob.glob(f"{glob.escape(venv)}-*")
    return [path for path in paths if ours.fullmatch(os.path.relpath(path, directory))]


def _runs_from(environment):
    """Return whether a process was started by the environment's interpreter, as its scripts are."""
    start = os.fsencode(environment) + b"/"
    for path in glob.iglob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                if file.read().startswith(start):
                    return True
        except OSError:
            pass  # it ended meanwhile
    return False


def _with_command(request, outcome, check_mode):
    """Return the outcome with what becomes of the link to the command added, which this does."""
    before, after, warnings = command.change(request)
    outcome.warnings.extend(warnings)
    if before == after:
        return outcome
    if not check_mode:
        command.apply(request, after)
    shown = {
        "before": f"{request.command} -> {before}\n" if before else "",
        "after": f"{request.command} -> {after}\n" if after else "",
    }
    outcome.changed = True
    outcome.actions.append(f"link {request.command}" if after else f"remove {request.command}")
    outcome.diff.append(shown)
    return outcome


def _absent(request, before, check_mode):
    paths = _environments(request.venv)
    if not check_mode:
        if before:
            os.unlink(request.venv)
        for path in paths:
            shutil.rmtree(path)
    return _outcome(request, before, None, bool(before or paths))


def _outcome(request, before, after, changed):
    directory = os.path.dirname(request.venv)
    shown = {
        "before": f"{request.venv} -> {before}\n" if before else "",
        "after": f"{request.venv} -> {after}\n" if after else "",
    }
    actions = []
    if changed:
        actions = [f"build {os.path.join(directory, after)}" if after else f"remove {request.venv}"]
        if after and before != after:
            actions.append(f"link {request.venv} to it")
    details = {
        "venv": request.venv,
        "environment": os.path.join(directory, after) if after else None,
        "binding": request.binding,
    }
    return Outcome(changed, actions, diff=[shown] if changed else [], details=details)
