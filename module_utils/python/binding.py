# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python binding: a virtual environment that is built aside and swapped in.

Virtual environments cannot be moved, so each is built where it stays, in
VENV-DIGEST, and VENV is a link to the one in use. The digest names everything
that went in, so an unchanged request is recognised by reading one link.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import tempfile
from typing import NamedTuple

from ..debian import packages, release
from ..failure import GearvisorError, InvalidOption

# The newest release of the one maintained binding on PyPI.
PYGEARMAN = "pygearman==0.2.6"
_IMPORTS = {"gearvisor": "gearvisor", "pygearman": "gearman"}


class Request(NamedTuple):
    """*requirements* are lines of a pip requirements file; *python* is the interpreter's path."""

    state: str = "present"
    venv: str = "/opt/gearvisor/venv"
    binding: str = "gearvisor"
    requirements: tuple = ()
    python: str = "/usr/bin/python3"


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
    specifications = packages.missing(
        packages.installed_versions(host.run, ["python3-venv"]), {"python3-venv": None}
    )
    known = not specifications and os.path.exists(request.python)
    if not known and not check_mode:
        packages.install(host.run, specifications or ["python3-venv"], "state: 'present'")
    version = _python_version(request, host) if known or not check_mode else "unknown"
    after = f"{os.path.basename(request.venv)}-{digest(request, host.wheel, version)}"
    changed = before != after or not _works(request, host, request.venv)
    if changed and not check_mode:
        target = os.path.join(os.path.dirname(request.venv), after)
        _build(request, host, target)
        _swap(target, request.venv)
        _forget_older(request.venv, keep={after, before})
    return {
        "changed": changed,
        "venv": request.venv,
        "binding": request.binding,
        "diff": {
            "before": f"{request.venv} -> {before}\n" if before else "",
            "after": f"{request.venv} -> {after}\n",
        },
    }


def digest(request, wheel, python_version):
    """Return 12 hexadecimal digits that name what the virtual environment is made of.

    Requirements files that a requirement line includes (-r, -c) count with their content.
    """
    parts = [python_version, request.python, request.binding, *request.requirements]
    for line in request.requirements:
        included = re.match(r"(?:-r|-c|--requirement|--constraint)[ =]+(/\S+)", line)
        if included:
            parts.append(_read(included.group(1), line))
    if request.binding == "gearvisor":
        parts.append(hashlib.sha256(wheel[1]).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _read(path, line):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise InvalidOption(
            "requirements",
            line,
            f"cannot be read on this host: {error.strerror}",
            "Deploy the file first, or correct the path",
        ) from None


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
    for line in request.requirements:
        if "\n" in line:
            raise InvalidOption(
                "requirements", line, "holds a line break", "Write one requirement an item"
            )


def _python_version(request, host):
    rc, out, err = host.run([request.python, "--version"])
    if rc != 0:
        raise InvalidOption(
            "python", request.python, f"does not run: {err.strip()}", "Use /usr/bin/python3"
        )
    return out.strip()


def _works(request, host, venv):
    argv = [os.path.join(venv, "bin", "python"), "-c", f"import {_IMPORTS[request.binding]}"]
    return os.path.exists(argv[0]) and host.run(argv)[0] == 0


def _build(request, host, target):
    """Build the virtual environment at *target*; nothing is left there when that fails."""
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    try:
        _run(host, [request.python, "-m", "venv", target], "venv", request.venv)
        pip = [os.path.join(target, "bin", "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--no-input"]
        lines = [*request.requirements]
        with tempfile.TemporaryDirectory() as scratch:
            if request.binding == "gearvisor":
                name, content = host.wheel
                wheel = os.path.join(scratch, name)
                with open(wheel, "wb") as file:
                    file.write(content)
                _run(host, [*pip, "--no-index", "--no-deps", wheel], "binding", request.binding)
            else:
                lines.append(PYGEARMAN)
            if lines:
                listing = os.path.join(scratch, "requirements.txt")
                with open(listing, "w", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in lines))
                _run(host, [*pip, "--requirement", listing], "requirements", lines)
        if not _works(request, host, target):
            raise GearvisorError(
                f"binding: {request.binding!r} does not import in the new virtual environment, "
                "so the old one stays in use. See that requirements do not replace it"
            )
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _run(host, argv, option, value):
    rc, out, err = host.run(argv)
    if rc != 0:
        reason = "; ".join((err or out).strip().splitlines()[-3:])
        raise GearvisorError(
            f"{option}: {value!r} failed in '{' '.join(argv[:4])}': {reason}. "
            "What was in use before still is. Correct the option, or see that the host reaches its package index"
        )


def _swap(target, link):
    """Make *link* lead to *target* in one step."""
    fresh = link + ".new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    os.symlink(os.path.basename(target), fresh)
    os.replace(fresh, link)


def _forget_older(venv, keep):
    """Remove environments that are neither in use nor the one before, kept for rollback."""
    for path in _environments(venv):
        if os.path.basename(path) not in keep:
            shutil.rmtree(path)


def _environments(venv):
    return [
        path for path in glob.glob(f"{glob.escape(venv)}-*") if re.search(r"-[0-9a-f]{12}\Z", path)
    ]


def _absent(request, before, check_mode):
    paths = _environments(request.venv)
    if not check_mode:
        if before:
            os.unlink(request.venv)
        for path in paths:
            shutil.rmtree(path)
    return {
        "changed": bool(before or paths),
        "venv": request.venv,
        "binding": request.binding,
        "diff": {"before": f"{request.venv} -> {before}\n" if before else "", "after": ""},
    }
