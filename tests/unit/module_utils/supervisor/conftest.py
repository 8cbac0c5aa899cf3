"""Real supervisords to test against: each one found on this machine, started for one test."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import fleet, rpc

CONFIG = """\
[unix_http_server]
file={directory}/s.sock
chmod=0700

[supervisord]
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = {directory}/conf.d/*.conf
"""


def _found():
    beside = pathlib.Path(sys.executable).with_name("supervisord")
    places = {"venv": beside, "debian": pathlib.Path("/usr/bin/supervisord")}
    return {name: str(path) for name, path in places.items() if path.exists()}


SUPERVISORDS = _found()


def run_command(argv, data=None):
    """What AnsibleModule.run_command does, as far as the code under test uses it."""
    done = subprocess.run(argv, input=data, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class Daemon:
    """One supervisord of its own: configuration, conf.d, socket and logs in one directory."""

    def __init__(self, executable):
        # A unix socket's path must be short, shorter than tmp_path is.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gv", dir="/tmp"))
        self.directory.chmod(0o755)
        self.conf_d = self.directory / "conf.d"
        self.conf_d.mkdir()
        self.config = self.directory / "supervisord.conf"
        self.config.write_text(CONFIG.format(directory=self.directory))
        self.where = fleet.Host(run_command, str(self.config), str(self.conf_d), executable)
        self.environment = {"PATH": os.environ["PATH"], "FROM_SUPERVISORD": "seen"}
        self._child = None

    def start(self, ready=True):
        self._child = subprocess.Popen(
            [self.where.supervisord, "--nodaemon", "--configuration", str(self.config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            cwd="/",
        )
        if ready:
            self.rpc.wait_ready(15)

    def stop(self):
        """Stop supervisord and the process groups of all that it runs, at once."""
        if self._child is None:
            return
        pid = self._child.pid
        # Held, so that it starts nothing anew meanwhile.
        os.kill(pid, signal.SIGSTOP)
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(child), signal.SIGKILL)
        self._child.kill()
        self._child.wait()
        self._child = None

    @property
    def rpc(self):
        return rpc.Supervisord(str(self.directory / "s.sock"))

    def converge(self, programs, check_mode=False, **options):
        return fleet.converge(fleet.Request(programs, **options), self.where, check_mode)

    def states(self):
        return {process.full_name: process.state for process in self.rpc.processes()}

    def pids(self):
        return {process.full_name: process.pid for process in self.rpc.processes()}

    def names(self):
        """The groups that are loaded, in order."""
        return sorted({process.group for process in self.rpc.processes()})

    def files(self):
        return {path.name: path.read_text() for path in sorted(self.conf_d.iterdir())}

    def snapshot(self):
        """All that a refused call must leave as it was."""
        return self.files(), self.pids(), sorted(path.name for path in self.directory.iterdir())

    def load(self, name, text):
        """Let somebody else write a file and load the programs in it."""
        (self.conf_d / name).write_text(text)
        for group in sorted(self.rpc.reload_config().added):
            self.rpc.add_group(group)

    def wait_for(self, condition, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"still not so: {self.states()}"
            time.sleep(0.02)


@pytest.fixture(params=list(SUPERVISORDS))
def supervisord_path(request):
    return SUPERVISORDS[request.param]


@pytest.fixture
def idle(supervisord_path):
    """A Daemon that is set up and not started."""
    if os.geteuid() != 0:
        pytest.skip("program files belong to root")
    daemon = Daemon(supervisord_path)
    yield daemon
    daemon.stop()
    shutil.rmtree(daemon.directory)


@pytest.fixture
def daemon(idle):
    idle.start()
    return idle


@pytest.fixture
def dry_run(supervisord_path, tmp_path):
    """Run the dry run's file under supervisord's own interpreter; return its answer."""
    from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import dryrun

    interpreter = pathlib.Path(supervisord_path).read_bytes().split(b"\n")[0][2:].decode().split()

    def ask(overlay, config=None, **request):
        main = tmp_path / "supervisord.conf"
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        main.write_text(config or CONFIG.format(directory=tmp_path))
        request = {
            "config": str(main),
            "overlay": {str(tmp_path / "conf.d" / name): text for name, text in overlay.items()},
            "directories": [],
            "users": [],
            "environment": {"FROM_SUPERVISORD": "seen"},
            **request,
        }
        rc, out, err = run_command([*interpreter, dryrun.__file__], json.dumps(request))
        assert (rc, err) == (0, "")
        return json.loads(out)

    return ask
