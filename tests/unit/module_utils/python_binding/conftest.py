# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels and package indexes of the tests' own, and a host whose commands are run and recorded."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import journal
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python_binding import binding
from ansible_collections.gearvisor.gearvisor.plugins.modules import gearman_python_binding


@pytest.fixture
def tmp_path():
    """A separate directory: pytest's are closed to other users, and pip runs as one here."""
    path = Path(tempfile.mkdtemp(prefix="gearvisor-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def our_wheel():
    return gearman_python_binding.wheel()


class RecordingHost:
    """Runs what it is asked to, as AnsibleModule.run_command does, and keeps the arguments.

    Making an environment takes seconds, so each is a copy of the template, if there is one, which
    has our binding in it.
    """

    def __init__(self, wheel, template, journal):
        self.journal = journal
        self.wheel = wheel
        self.template = template
        self.commands = []

    def run(self, argv, environ_update=None, **_):
        self.commands.append(argv)
        # Without what makes it the unprivileged user's.
        command = argv[argv.index("timeout") + 3 :] if "timeout" in argv else argv
        if self.template and command[1:4] == ["-I", "-m", "venv"]:
            self.copy_template(command[4])
            return 0, "", ""
        listing = Path(argv[-1])
        if self.template and listing.name == "binding.txt" and self.wheel[0] in listing.read_text():
            return 0, "", ""
        environment = {**os.environ, **(environ_update or {})}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout, done.stderr

    def copy_template(self, target):
        owner = os.stat(target)
        shutil.copytree(self.template, target, symlinks=True, dirs_exist_ok=True)
        for folder, folders, files in os.walk(target):
            for name in ("", *folders, *files):
                path = os.path.join(folder, name)
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def used_pip(self):
        return any("pip" in argv for argv in self.commands)

    def converge(self, request, check_mode=False):
        """Return the module's result."""
        self.commands.clear()
        host = Host(self.run, check_mode, proc="/proc", module="gearman_python_binding")
        with mock.patch.object(journal, "DIRECTORY", str(self.journal)):
            result = binding.converge(request, host, self.wheel).as_result()
        assert not self.journal.exists() or not list(self.journal.iterdir())
        return result


@pytest.fixture(scope="session")
def template(tmp_path_factory, our_wheel):
    folder = tmp_path_factory.mktemp("template")
    name, content = our_wheel
    (folder / name).write_bytes(content)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    install = ["-m", "pip", "install", "--quiet", "--no-index", folder / name]
    subprocess.run([folder / "venv/bin/python", *install], check=True)
    return folder / "venv"


@pytest.fixture
def host(our_wheel, template, monkeypatch, tmp_path_factory):
    # The developer's own pip configuration must not count.
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return RecordingHost(our_wheel, template, tmp_path_factory.mktemp("journal") / "journal")


@pytest.fixture
def request_for(tmp_path):
    """request_for(**fields): a request for an environment of this test, with this Python."""
    fixed = {"venv": str(tmp_path / "hosts" / "venv"), "python": sys.executable}
    return lambda **fields: binding.Request(**{**fixed, **fields})


@pytest.fixture
def wheelhouse(tmp_path):
    return Wheelhouse(tmp_path / "wheelhouse")


class Wheelhouse:
    """A directory of wheels, each of one module that has a VERSION."""

    def __init__(self, path):
        self.path = path
        path.mkdir()

    def add(self, name, version, needs=(), extra=()):
        """Make a wheel, with *extra* files {name: text}; return its requirement line with its hash."""
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files = {
            f"{name}.py": f"VERSION = {version!r}\n",
            **dict(extra),
            f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {need}\n" for need in needs),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        wheel = self.path / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file, text in files.items():
                archive.writestr(file, text)
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


class _Index(http.server.SimpleHTTPRequestHandler):
    """A package index (PEP 503) over a wheelhouse, which asks for a name and a password."""

    authorization = None

    def do_GET(self):
        if self.authorization and self.headers["Authorization"] != self.authorization:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
        elif self.path.startswith("/simple/"):
            name = self.path.split("/")[2]
            files = [path.name for path in Path(self.directory).glob(f"{name}-*.whl")]
            self.send_response(200 if files else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write("".join(f'<a href="/{f}">{f}</a>' for f in files).encode())
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def index():
    """index(directory, credentials=None): serve a directory's wheels; return "HOST:PORT"."""
    servers = []

    def serve(directory, credentials=None):
        known = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        handler = type("Index", (_Index,), {"authorization": known})
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(directory))
        )
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return f"127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
