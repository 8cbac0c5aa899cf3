# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual environment: built and tried as an unprivileged user, then made root's.

Every installed package may run its own code: when it is built, by a .pth file each time the
interpreter starts, or when it is imported. So none of that is ever run as root.
docs/decisions/0035 explains how.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import stat

from ..failure import GearvisorError
from ..host import directories, journal
from ..host.builder import Builder
from ..host.files import read_bytes, write_bytes
from . import interpreter
from .requirements import Copies, without_credentials

# The newest release of the one maintained binding on PyPI, and its wheel there.
PYGEARMAN = "0.2.6"
_PYGEARMAN_HASH = "ee634dd3fcb19660ccd1dc7b5c7e3fe9fa020fb985e6d6b0a7a0f7b215156776"
_IMPORTS = {"gearvisor": "gearvisor", "pygearman": "gearman"}
# In an environment that was built to its end.
_COMPLETE = ".complete"
# In an environment while it is built.
_SCRATCH = ".build"
# What pip has to know of this host, and may: the rest of root's environment is none of its business.
_PASSED_ON = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Where pip looks for root's own configuration; that of the host, /etc/pip.conf, it finds itself.
_PIP_CONFIGURATIONS = ("~/.config/pip/pip.conf", "~/.pip/pip.conf")


def works(request, host, environment):
    """Return whether the environment was built to its end, and its binding can be imported."""
    python = os.path.join(environment, "bin", "python")
    if not os.path.exists(python) or not os.path.exists(os.path.join(environment, _COMPLETE)):
        return False
    with Builder(host.run) as builder:
        return builder.run([python, "-I", "-c", f"import {_IMPORTS[request.binding]}"])[0] == 0


def provide(request, host, target, wheel, files):
    """See that a working environment is at *target*; when that fails, what was there still is.

    *wheel* is (file name, bytes) of our binding; *files* is {path: bytes} of those that the
    requirements name. Raises GearvisorError.
    """
    if works(request, host, target):
        return
    aside = f"{target}.old"
    shutil.rmtree(aside, ignore_errors=True)
    replaces = os.path.lexists(target)
    entry = journal.note(host, directories.KIND, path=target, aside=aside, replaces=replaces)
    if replaces:
        os.rename(target, aside)
    try:
        os.mkdir(target)
        os.chmod(target, 0o755)
        with Builder(host.run) as builder:
            _Build(request, wheel, target, builder).run(files)
    except BaseException:
        directories.put_back(target, aside)
        journal.forget(host, entry)
        raise
    journal.forget(host, entry)
    shutil.rmtree(aside, ignore_errors=True)


class _Build:
    """Builds one environment as *builder*, who has nothing of the host but the directory *target*."""

    def __init__(self, request, wheel, target, builder):
        self._request = request
        self._wheel = wheel
        self._target = target
        self._builder = builder
        self._python = os.path.join(target, "bin", "python")
        self._scratch = os.path.join(target, _SCRATCH)
        self._wheelhouse = request.wheelhouse

    def run(self, files):
        request = self._request
        for path in (self._scratch, os.path.join(self._scratch, "tmp")):
            os.mkdir(path)
            os.chmod(path, 0o755)
            self._builder.give(path)
        self._builder.give(self._target)
        self._do(
            [request.python, "-I", "-m", "venv", self._target],
            f"venv: {request.venv!r}",
            "Check that the disk has free space and is not mounted read-only",
        )
        self._copy_wheelhouse()
        version = self._install_binding()
        if request.requirements:
            copies = Copies(os.path.join(self._scratch, "copies"), files)
            lines = copies.write(request.requirements, self._builder.give)
            self._install(lines, [], "requirements")
            self._do(
                [self._python, "-I", "-m", "pip", "check", "--disable-pip-version-check"],
                f"requirements: {_shown(request.requirements)}",
                "Correct the requirements so that they fit each other",
            )
        self._prove(version)
        self._builder.end_processes()
        shutil.rmtree(self._scratch)
        self._builder.seal(self._target)
        write_bytes(os.path.join(self._target, _COMPLETE), b"", 0o644, -1, -1)

    def _prove(self, version):
        """Prove that it imports, and that the requirements did not bring another one in its place."""
        binding = self._request.binding
        proof = f"import {_IMPORTS[binding]}\nfrom importlib.metadata import version\n"
        proof += f"print(version({binding!r}))"
        rc, out, err = self._run([self._python, "-I", "-c", proof])
        if rc != 0 or out.strip() != version:
            reason = _last_lines(err) or f"version {out.strip()} replaced {version}"
            raise GearvisorError(
                f"binding: {binding!r} cannot be imported correctly in the new virtual "
                f"environment: {reason}. What was in use before still is. See that the requirements "
                "leave it alone"
            )

    def _install_binding(self):
        """Install the binding and return its version.

        By itself, since hashes among the requirements would otherwise be asked of it, and with a
        hash, since the host's pip may ask for one.
        """
        if self._request.binding == "pygearman":
            line = f"pygearman=={PYGEARMAN} --hash=sha256:{_PYGEARMAN_HASH}"
            self._install([line], ["--no-deps"], "binding")
            return PYGEARMAN
        name, content = self._wheel
        wheel = os.path.join(self._scratch, name)
        self._write(wheel, content)
        line = f"{wheel} --hash=sha256:{hashlib.sha256(content).hexdigest()}"
        self._install([line], ["--no-deps", "--no-index"], "binding")
        return name.split("-")[1]

    def _install(self, lines, options, option):
        request = self._request
        listing = os.path.join(self._scratch, f"{option}.txt")
        self._write(listing, "".join(f"{line}\n" for line in lines).encode())
        argv = [self._python, "-I", "-m", "pip", "install", "--quiet"]
        argv += ["--disable-pip-version-check", "--no-input", *options, "--requirement", listing]
        # URLs may hold passwords, and every user of the host can see a process's arguments.
        environment = {}
        way_out = "see that the host reaches its package index"
        if self._wheelhouse:
            argv += ["--no-index", "--find-links", self._wheelhouse]
            way_out = f"see that {request.wheelhouse} holds all that is needed, for this Python"
        if request.index_url:
            environment["PIP_INDEX_URL"] = request.index_url
            way_out += " at " + without_credentials(request.index_url).split("/")[2]
        if request.extra_index_urls:
            environment["PIP_EXTRA_INDEX_URL"] = " ".join(request.extra_index_urls)
        shown = _shown(request.requirements) if option == "requirements" else repr(request.binding)
        self._do(argv, f"{option}: {shown}", f"Correct the {option}, or {way_out}", environment)

    def _copy_wheelhouse(self):
        """Give the user a copy of a wheelhouse that only root can read, as under a strict umask."""
        if self._wheelhouse is None or _open_to_all(self._wheelhouse):
            return
        copy = os.path.join(self._scratch, "wheelhouse")
        os.mkdir(copy)
        os.chmod(copy, 0o755)
        for source in pathlib.Path(self._wheelhouse).iterdir():
            if source.is_file():
                target = os.path.join(copy, source.name)
                shutil.copyfile(source, target)
                os.chmod(target, 0o644)
        self._wheelhouse = copy

    def _write(self, path, content):
        """Write a file that the user alone can read: an address in it may hold a password."""
        write_bytes(path, content, 0o600, -1, -1)
        self._builder.give(path)

    def _do(self, argv, what, way_out, environment=None):
        rc, out, err = self._run(argv, environment)
        if rc != 0:
            shown = " ".join(argv[:5])
            raise GearvisorError(
                f"{what} failed in '{shown}': {_last_lines(err) or _last_lines(out)}. "
                f"What was in use before still is. {way_out}"
            )

    def _run(self, argv, environment=None):
        home = {"HOME": self._scratch, "TMPDIR": os.path.join(self._scratch, "tmp")}
        given = {**home, **self._of_this_host(), **(environment or {})}
        return self._builder.run(argv, cwd=self._scratch, environment=given)

    def _of_this_host(self):
        """Return what pip gets of the module's environment and of root's configuration of pip."""
        passed_on = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith("PIP_") or name.lower().endswith("_proxy")
        }
        named = passed_on.get("PIP_CONFIG_FILE")
        for path in [named] if named else map(os.path.expanduser, _PIP_CONFIGURATIONS):
            if path != os.devnull and os.path.isfile(path):
                copy = os.path.join(self._scratch, "pip.conf")
                if not os.path.exists(copy):
                    self._write(copy, read_bytes(path))
                passed_on["PIP_CONFIG_FILE"] = copy
                break
        return passed_on


def _open_to_all(directory):
    """Return whether any user may read the files in the directory."""
    if interpreter.closed_directory(os.path.join(directory, "any")) is not None:
        return False
    paths = [pathlib.Path(directory), *pathlib.Path(directory).iterdir()]
    return all(path.stat().st_mode & stat.S_IROTH for path in paths if path.exists())


def _last_lines(output):
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "; ".join(lines[-4:])


def _shown(lines):
    return repr([without_credentials(line) for line in lines])
