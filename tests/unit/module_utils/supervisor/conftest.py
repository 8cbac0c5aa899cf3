"""Real supervisords to test against: each one found on this machine, started for one test."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import journal
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    fleet,
    rounds,
    rpc,
)

CONFIG = """\
[unix_http_server]
file={directory}/s.sock
chmod=0700

[supervisord]
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}/auto

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


def _proc(pid, name):
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Daemon:
    """One supervisord of its own: configuration, conf.d, socket and logs in one directory."""

    def __init__(self, executable):
        # A unix socket's path must be short, shorter than tmp_path is.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gv", dir="/tmp"))
        self.directory.chmod(0o755)
        self.conf_d = self.directory / "conf.d"
        self.conf_d.mkdir()
        (self.directory / "auto").mkdir()
        # What stands for /var/lib/gearvisor and /run/gearvisor.
        self.state = self.directory.with_suffix(".state")
        self.config = self.directory / "supervisord.conf"
        self.config.write_text(CONFIG.format(directory=self.directory))
        self.where = fleet.Host(
            run_command,
            str(self.config),
            str(self.conf_d),
            executable,
            fleets=str(self.state / "fleets"),
            runtime=str(self.state / "run"),
            paused=str(self.state / "paused"),
            failed=str(self.state / "failed"),
            tmpfiles=str(self.state / "tmpfiles.d"),
            group="root",
            drop_in=str(self.state / "gearvisor.conf"),
        )
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
            self.rpc.wait_ready(120)

    def wait_for_socket(self):
        deadline = time.monotonic() + 60
        while not (self.directory / "s.sock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self):
        """Stop supervisord and the process groups of all that it runs, at once."""
        if self._child is None:
            return
        pid = self._child.pid
        # Held, so that it starts nothing again meanwhile.
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
        result = fleet.converge(fleet.Request(programs, **options), self.where, check_mode)
        self.wait_for(self.all_are_programs)
        return result

    def all_are_programs(self):
        """Return whether no process is still supervisord's fork, which would lose a signal."""
        own = self._child and _proc(self._child.pid, "cmdline")
        return own is None or all(
            _proc(pid, "cmdline") != own for pid in self.pids().values() if pid
        )

    def all_catch_term(self):
        """Return whether every process has its handler for SIGTERM in place."""
        return all(self.catches_term(name) for name in self.pids())

    def catches_term(self, name):
        status = _proc(self.pids()[name], "status")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return self.all_are_programs() and caught & 1 << 14

    def states(self):
        return {process.full_name: process.state for process in self.rpc.processes()}

    def pids(self):
        return {process.full_name: process.pid for process in self.rpc.processes()}

    def names(self):
        """The groups that are loaded, in order."""
        return sorted({process.group for process in self.rpc.processes()})

    def files(self):
        return {path.name: path.read_text() for path in sorted(self.conf_d.iterdir())}

    def mail(self):
        return (self.conf_d / "mail.conf").read_text()

    def snapshot(self):
        """Files and processes, to see that nothing or something changed."""
        return self.files(), self.pids()

    def load(self, name, text):
        """Let another user write a file and load the programs in it."""
        (self.conf_d / name).write_text(text)
        for group in sorted(self.rpc.reload_config().added):
            self.rpc.add_group(group)

    @contextlib.contextmanager
    def without_descriptors(self):
        """While it lasts, supervisord can take a connection, and has no pipes for a process."""
        pid = self.rpc.pid()
        highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 3, usual[1]))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)

    def wait_for(self, condition, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"still not so: {self.states()}"
            time.sleep(0.02)

    def remove(self):
        """Stop it, and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.directory)
        shutil.rmtree(self.state, ignore_errors=True)

    def reset(self):
        """Make it as good as new for the next test."""
        self.config.write_text(CONFIG.format(directory=self.directory))
        for path in self.directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith(("supervisord.", "s.sock")):
                path.unlink()
        self.conf_d.mkdir()
        (self.directory / "auto").mkdir()
        (self.directory / "supervisord.log").write_text("")
        shutil.rmtree(self.state, ignore_errors=True)
        supervisord = self.rpc
        supervisord.reload_config()

        def is_empty():
            for process in supervisord.processes():
                supervisord.stop_group(process.group)
                if process.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(rpc.StillRunning):
                    supervisord.remove_group(process.group)
            return not supervisord.processes()

        self.wait_for(is_empty)


@pytest.fixture(autouse=True)
def own_journal(monkeypatch, tmp_path):
    """Keep what a run notes out of the host that runs the tests."""
    monkeypatch.setattr(journal, "DIRECTORY", str(tmp_path / "journal"))


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch):
    """Look more often than a real call does, so that tests wait less."""
    monkeypatch.setattr(rounds, "_ROUND_SECONDS", 0.02)


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "supervisords(which): run with 'all' supervisords here, or 'one' (Debian's, if it is here)",
    )


def pytest_generate_tests(metafunc):
    """A test that uses supervisord_path runs with each supervisord, or as marked."""
    if "supervisord_path" in metafunc.fixturenames:
        names = list(SUPERVISORDS)
        mark = metafunc.definition.get_closest_marker("supervisords")
        if mark and mark.args == ("one",):
            names = names[-1:]
        metafunc.parametrize("supervisord_path", [SUPERVISORDS[name] for name in names], ids=names)


@pytest.fixture
def new_daemon():
    if os.geteuid() != 0:
        pytest.skip("program files belong to root")
    return Daemon


@pytest.fixture
def idle(new_daemon, supervisord_path):
    """A Daemon that is set up and not started."""
    daemon = new_daemon(supervisord_path)
    yield daemon
    daemon.remove()


@pytest.fixture(scope="session")
def _daemons():
    """{executable: Daemon} of those that run already: starting one takes longer than most tests."""
    running = {}
    yield running
    for daemon in running.values():
        daemon.remove()


@pytest.fixture
def daemon(new_daemon, supervisord_path, _daemons):
    """A Daemon that runs, with no programs."""
    if supervisord_path not in _daemons:
        _daemons[supervisord_path] = new_daemon(supervisord_path)
        _daemons[supervisord_path].start()
    yield _daemons[supervisord_path]
    _daemons[supervisord_path].reset()


@pytest.fixture
def dry_run(supervisord_path, tmp_path):
    """Run the check's source, as the module does, under supervisord's own interpreter; return its answer."""
    from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import parser_check

    interpreter = pathlib.Path(supervisord_path).read_bytes().split(b"\n")[0][2:].decode().split()

    def ask(overlay, config=None, **request):
        main = tmp_path / "supervisord.conf"
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        (tmp_path / "auto").mkdir(exist_ok=True)
        main.write_text(config or CONFIG.format(directory=tmp_path))
        request = {
            "config": str(main),
            "overlay": {str(tmp_path / "conf.d" / name): text for name, text in overlay.items()},
            "directories": [],
            "users": [],
            "environment": {"FROM_SUPERVISORD": "seen"},
            **request,
        }
        rc, out, err = run_command(
            [*interpreter, "-c", inspect.getsource(parser_check)], json.dumps(request)
        )
        assert (rc, err) == (0, "")
        return json.loads(out)

    return ask


# Run by the interpreter of each supervisord, since what its own parser makes of a text is what counts.
READER = """
import io, json, sys, warnings
warnings.simplefilter("ignore")
from supervisor import datatypes, options
parser = options.UnhosedConfigParser()
parser.read_file(io.StringIO(json.load(sys.stdin)))
parser.expand_here("/etc/supervisor")
json.dump({
    section: datatypes.dict_of_key_value_pairs(
        options.expand(parser.get(section, "environment"), {}, "environment")
    )
    for section in parser.sections()
}, sys.stdout)
"""


@pytest.fixture
def read_by_supervisor(supervisord_path):
    """Return a function: text -> {section: environment}, as that supervisord gets it."""
    first_line = pathlib.Path(supervisord_path).read_text().split("\n")[0]

    def read(content):
        argv = [*first_line[2:].split(), "-c", READER]
        done = subprocess.run(
            argv, input=json.dumps(content), capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    return read
