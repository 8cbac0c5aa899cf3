# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python binding: a virtual environment that is built aside and swapped in.

Virtual environments cannot be moved, so each is built where it stays, in
VENV-DIGEST, and VENV is a link to the one in use. The digest names everything
that went in, so an unchanged request is recognised by reading one link, and one
that was made before and is still there is taken up again as it is.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import tempfile
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import release
from . import interpreter
from .requirements import contents, credentials, without_credentials

# The newest release of the one maintained binding on PyPI, and its wheel there.
PYGEARMAN = "0.2.6"
_PYGEARMAN_HASH = "ee634dd3fcb19660ccd1dc7b5c7e3fe9fa020fb985e6d6b0a7a0f7b215156776"
_IMPORTS = {"gearvisor": "gearvisor", "pygearman": "gearman"}
# In an environment that was built to its end.
_COMPLETE = ".complete"


class Request(NamedTuple):
    """*requirements* are lines of a pip requirements file; *python* is the interpreter's path.

    They come from the directory *wheelhouse*, or else from the package indexes,
    by default those of the host's pip configuration.
    """

    state: str = "present"
    venv: str = "/opt/gearvisor/venv"
    binding: str = "gearvisor"
    requirements: tuple = ()
    python: str = "/usr/bin/python3"
    wheelhouse: str = None
    index_url: str = None
    extra_index_urls: tuple = ()


class Host(NamedTuple):
    """*run* is like AnsibleModule.run_command; *wheel* is (file name, bytes) of our binding."""

    run: object
    wheel: tuple


def converge(request, host, check_mode=False):
    """Make the virtual environment what *request* says; return the module's result.

    Raises GearvisorError; the link then still leads to what it led to before.
    """
    _check(request)
    release.check_supported()
    before = os.path.basename(os.readlink(request.venv)) if os.path.islink(request.venv) else None
    if request.state == "absent":
        return _absent(request, before, check_mode)
    files = contents(request.requirements, missing_ok=check_mode)
    _check_wheelhouse(request, check_mode)
    version = interpreter.ready(host.run, request.python, check_mode)
    after = f"{os.path.basename(request.venv)}-{digest(request, host.wheel, version, files)}"
    target = os.path.join(os.path.dirname(request.venv), after)
    changed = before != after or not _imports(request, host, target)
    if changed and not check_mode:
        _provide(request, host, target)
        _swap(target, request.venv)
        _forget_older(request.venv, keep={after, before})
    warnings = _warnings(request) if version else []
    return {**_result(request, before, after), "changed": changed, "warnings": warnings}


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
    if not re.match(r"/[^\s\0]+[^\s\0/]\Z", request.venv):
        raise InvalidOption(
            "venv", request.venv, "is no absolute path", "Use a path like /opt/gearvisor/venv"
        )
    if os.path.lexists(request.venv) and not os.path.islink(request.venv):
        raise InvalidOption(
            "venv",
            request.venv,
            "exists and is no link, so it was not made here",
            "Remove it, or name another path",
        )
    for option, urls in (
        ("index_url", [request.index_url] if request.index_url else []),
        ("extra_index_urls", request.extra_index_urls),
    ):
        if urls and request.wheelhouse:
            raise InvalidOption(
                "wheelhouse",
                request.wheelhouse,
                f"takes the place of every index, {option} included",
                f"Leave out one of wheelhouse and {option}",
            )
        for url in urls:
            _check_url(option, url)


def _check_url(option, url):
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?|file:///\S+", url):
        raise InvalidOption(
            option,
            without_credentials(url),
            "is no URL of a package index",
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
            "is no directory on this host",
            "Copy one there, made by 'pip download --dest WHEELHOUSE --requirement FILE'",
        )


def _warnings(request):
    closed = interpreter.closed_directory(request.python)
    if closed is None:
        return []
    return [
        f"python: {request.python!r} is below {closed}, which only its owner may enter: "
        "workers of other users cannot start with it. Install Python where all users get to"
    ]


# --- The environments -------------------------------------------------------------------


def _imports(request, host, environment):
    """Tell whether the environment was built to its end, and its binding can be imported."""
    python = os.path.join(environment, "bin", "python")
    if not os.path.exists(python) or not os.path.exists(os.path.join(environment, _COMPLETE)):
        return False
    return host.run([python, "-I", "-c", f"import {_IMPORTS[request.binding]}"])[0] == 0


def _provide(request, host, target):
    """See that a working environment is at *target*; when that fails, what was there still is."""
    if _imports(request, host, target):
        return
    aside = f"{target}.old"
    shutil.rmtree(aside, ignore_errors=True)
    if os.path.lexists(target):
        os.rename(target, aside)
    # Workers run as other users, whatever root's own files are like.
    umask = os.umask(0o022)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _build(request, host, target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        if os.path.lexists(aside):
            os.rename(aside, target)
        raise
    finally:
        os.umask(umask)
    shutil.rmtree(aside, ignore_errors=True)


def _build(request, host, target):
    python = os.path.join(target, "bin", "python")
    _run(
        host,
        [request.python, "-I", "-m", "venv", target],
        f"venv: {request.venv!r}",
        "See that there is room, and that nothing there is read-only",
    )
    with tempfile.TemporaryDirectory() as scratch:
        version = _install_binding(request, host, python, scratch)
        if request.requirements:
            _install(request, host, python, scratch, request.requirements, [], "requirements")
            _run(
                host,
                [python, "-I", "-m", "pip", "check", "--disable-pip-version-check"],
                f"requirements: {_shown(request.requirements)}",
                "Correct the requirements so that they fit each other",
            )
    # Also proves that the requirements did not bring another one in its place.
    proof = f"import {_IMPORTS[request.binding]}\nfrom importlib.metadata import version\n"
    proof += f"print(version({request.binding!r}))"
    rc, out, err = host.run([python, "-I", "-c", proof])
    if rc != 0 or out.strip() != version:
        reason = _last_lines(err) or f"version {out.strip()} took the place of {version}"
        raise GearvisorError(
            f"binding: {request.binding!r} does not import as it should in the new virtual "
            f"environment: {reason}. What was in use before still is. See that the requirements "
            "leave it alone"
        )
    with open(os.path.join(target, _COMPLETE), "w", encoding="utf-8"):
        pass


def _install_binding(request, host, python, scratch):
    """Install the binding and return its version.

    By itself, since hashes among the requirements would otherwise be asked of it, and with a hash,
    since the host's pip may ask for one.
    """
    if request.binding == "pygearman":
        line = f"pygearman=={PYGEARMAN} --hash=sha256:{_PYGEARMAN_HASH}"
        _install(request, host, python, scratch, [line], ["--no-deps"], "binding")
        return PYGEARMAN
    name, content = host.wheel
    wheel = os.path.join(scratch, name)
    with open(wheel, "wb") as file:
        file.write(content)
    line = f"{wheel} --hash=sha256:{hashlib.sha256(content).hexdigest()}"
    _install(request, host, python, scratch, [line], ["--no-deps", "--no-index"], "binding")
    return name.split("-")[1]


def _install(request, host, python, scratch, lines, options, option):
    listing = os.path.join(scratch, f"{option}.txt")
    with open(listing, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
    argv = [python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    argv += ["--no-input", *options, "--requirement", listing]
    # URLs may hold passwords, and every user of the host can see a process's arguments.
    environment = {}
    way_out = "see that the host reaches its package index"
    if request.wheelhouse:
        argv += ["--no-index", "--find-links", request.wheelhouse]
        way_out = f"see that {request.wheelhouse} holds all that is needed, for this Python"
    if request.index_url:
        environment["PIP_INDEX_URL"] = request.index_url
        way_out += " at " + without_credentials(request.index_url).split("/")[2]
    if request.extra_index_urls:
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(request.extra_index_urls)
    value = _shown(lines) if option == "requirements" else repr(request.binding)
    _run(host, argv, f"{option}: {value}", f"Correct the {option}, or {way_out}", environment)


def _run(host, argv, what, way_out, environment=None):
    rc, out, err = host.run(argv, environ_update=environment or {})
    if rc != 0:
        raise GearvisorError(
            f"{what} failed in '{' '.join(argv[:5])}': {_last_lines(err) or _last_lines(out)}. "
            f"What was in use before still is. {way_out}"
        )


def _last_lines(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-4:])


def _shown(lines):
    return repr([without_credentials(line) for line in lines])


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
    """Tell whether a process was started by the environment's interpreter, as its scripts are."""
    start = os.fsencode(environment) + b"/"
    for path in glob.iglob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                if file.read().startswith(start):
                    return True
        except OSError:
            pass  # it ended meanwhile
    return False


def _absent(request, before, check_mode):
    paths = _environments(request.venv)
    if not check_mode:
        if before:
            os.unlink(request.venv)
        for path in paths:
            shutil.rmtree(path)
    return {**_result(request, before, None), "changed": bool(before or paths), "warnings": []}


def _result(request, before, after):
    directory = os.path.dirname(request.venv)
    return {
        "venv": request.venv,
        "environment": os.path.join(directory, after) if after else None,
        "binding": request.binding,
        "diff": {
            "before": f"{request.venv} -> {before}\n" if before else "",
            "after": f"{request.venv} -> {after}\n" if after else "",
        },
    }
