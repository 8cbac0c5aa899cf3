"""The decisions as tables; the sequence with a real gearmand, kept by a plain child process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
import threading
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
    Refused,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import (
    Admin,
    FunctionStatus,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.connection import (
    Connection,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.protocol import (
    Packet,
    encode,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.process import Process
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    absent,
    config,
    package_version,
    present,
    queues,
    service,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server.options import Settings
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server.state import Request
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.service import Preview


class Child:
    """A keeper (keeper/service.py) of which gearmand is a child of the test."""

    manager = "supervisor"

    def __init__(self, start, host):
        self._start = start
        self._host = host
        self.command = service.command(self.manager, host)
        self.child = None
        self.starts = 0

    def files(self):
        return {}

    def hard_file_limit(self):
        return None

    def process(self):
        if self.child is None or self.child.poll() is not None:
            return None
        process = Process(self.child.pid)
        return process if process.runs(config.GEARMAND) else None

    def enabled(self):
        return True

    def preview(self, _wanted):
        return Preview()

    def prepare(self):
        pass

    def reread(self):
        pass

    def start(self):
        if self.process() is None:
            self.starts += 1
            self.child = self._start(self.command)

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        if self.child is not None:
            self.child.terminate()
            self.child.wait()

    def remove(self):
        self.stop()

    def crashed(self):
        return self.child is not None and self.child.poll() not in (None, 0)

    def last_lines(self):
        return "the last line"


class Commands:
    """AnsibleModule.run_command, but for what would change this machine's packages."""

    def __init__(self):
        self.removed = []
        self.candidate = "1.1.20+ds-1"

    def __call__(self, argv, data=None, environ_update=None, cwd=None):
        if argv[0] == "dpkg-query":
            return 0, f"ii  {package_version.PACKAGE} 1.1.20+ds-1\n", ""
        if argv[0] == "apt-get":
            self.removed += argv[argv.index("remove") + 1 :]
            return 0, "", ""
        if argv[:2] == ["apt-cache", "policy"]:
            return 0, f"  Candidate: {self.candidate}\n", ""
        done = subprocess.run(argv, input=data, capture_output=True, text=True, cwd=cwd)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def root():
    """The directory that stands for /; gearmand's user reaches what is in it."""
    if os.geteuid() != 0:
        pytest.skip("the files belong to root")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="gv"))
    directory.chmod(0o755)
    (directory / "run").mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
def host(root, commands):
    return Host(commands, root=str(root))


@pytest.fixture
def child(start, host):
    """A host whose package is installed; gearmand runs as the test's own user, who is root."""
    result = Child(start, host)
    yield result
    result.stop()


def sqlite(root):
    directory = root / "queue"
    if not directory.exists():
        directory.mkdir()
        os.chown(directory, pwd.getpwnam(config.USER).pw_uid, 0)
    path = str(directory / "queue.sqlite3")
    return queues.Queue("libsqlite3", (("libsqlite3-db", path), ("libsqlite3-table", "jobs")))


@pytest.fixture
def converge(child, port, host, commands):
    """Call it with settings and with options of the Request; it returns the module's result."""

    def do(check_mode=False, queue=None, state="present", settings=None, **options):
        asked = {"threads": 4, "queue": queue or queues.Queue(), **(settings or {})}
        asked.update({key: options.pop(key) for key in list(options) if key in Settings._fields})
        request = Request(Settings(port=port, **asked), state=state, ready_timeout=60, **options)
        run = {"stopped": absent.stopped, "absent": absent.absent}.get(state, present.converge)
        on = Host(commands, check_mode=check_mode, root=host.root)
        outcome = run(request, on, child)
        return {**outcome.as_result(), "warnings": outcome.warnings}

    return do


def queue_job(port, function="resize", unique="1"):
    with Client([f"127.0.0.1:{port}"]) as client:
        client.submit(function, b"data", background=True, unique=unique)


def wait_until_left(port, function):
    """Until gearmand has noticed that the last worker of a function has closed its connection."""
    deadline = time.monotonic() + 60
    with Admin(f"127.0.0.1:{port}") as admin:
        while admin.status()[function].workers:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def do_one_job(connection):
    connection.send(encode(Packet.CAN_DO, b"resize") + encode(Packet.GRAB_JOB_UNIQ))
    _kind, arguments = connection.receive(60)
    connection.send(encode(Packet.WORK_COMPLETE, arguments[0], b""))


def text(host):
    with open(host.path(config.CONFIG), encoding="utf-8") as file:
        return file.read()


def test_first_run_second_run_and_a_change(converge, child, port, host):
    planned = converge(check_mode=True)
    assert planned["changed"]
    assert planned["actions"] == ["start gearmand"]
    assert planned["version"] is None
    assert not os.path.exists(host.path(config.CONFIG))

    first = converge()
    assert first["changed"]
    assert first["files"] == [config.CONFIG, config.MAX_QUEUE_SCRIPT]
    assert first["server"] == f"127.0.0.1:{port}"
    assert first["version"].startswith("1.")
    assert not first["restarted"]
    assert os.stat(host.path(config.CONFIG)).st_mode & 0o777 == 0o640

    second = converge()
    assert not second["changed"]
    assert second["diff"] == []

    changed = converge(threads=5)
    assert changed["restarted"]
    assert "--threads=4\n" in changed["diff"][0]["before"]
    assert child.starts == 2
    assert not converge(threads=5)["changed"]


def test_queued_jobs_are_not_lost_unasked(converge, child, port, host):
    converge()
    queue_job(port)
    for check_mode in (True, False):
        with pytest.raises(InvalidOption, match=r"would lose 1 job: resize \(1 queued"):
            converge(check_mode, threads=5)
    assert "--threads=4\n" in text(host)
    assert not converge()["changed"]
    result = converge(threads=5, restart="force")
    assert result["lost"] == {"resize": {"queued": 1, "running": 0}}
    assert child.starts == 2


def test_never_leaves_the_restart_pending_until_it_is_done(converge, child, port, host):
    converge()
    queue_job(port)
    pending = converge(threads=5, restart="never")
    assert pending["changed"]
    assert pending["restart_pending"]
    assert child.starts == 1
    again = converge(threads=5, restart="never")
    assert not again["changed"]
    assert again["restart_pending"]
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(threads=5)
    # Back to what the server was started with, nothing is pending any more.
    assert not converge(threads=4, restart="never")["restart_pending"]
    converge(threads=5, restart="never")
    assert converge(threads=5, restart="force")["restarted"]
    assert not converge(threads=5)["changed"]


def test_the_running_queue_counts_not_the_one_in_the_file(converge, child, port, root, host):
    persistent = sqlite(root)
    converge()
    queue_job(port)
    converge(queue=persistent, restart="never")
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(queue=persistent)


def test_jobs_in_a_file_survive_a_restart(converge, child, port, root, host):
    persistent = sqlite(root)
    converge(queue=persistent)
    queue_job(port)
    assert converge(queue=persistent, threads=5)["restarted"]
    with Admin(f"127.0.0.1:{port}") as admin:
        assert admin.status() == {"resize": FunctionStatus(1, 0, 0)}
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge()


def test_a_drain_that_takes_too_long_changes_nothing(converge, child, port, host):
    converge()
    queue_job(port)
    with pytest.raises(Refused, match="gearmand still has 1 job: resize") as caught:
        converge(threads=5, restart="drain", drain_timeout=1)
    assert caught.value.details["left"] == {"resize": {"queued": 1, "running": 0}}
    assert child.starts == 1
    assert "--threads=4\n" in text(host)
    queue_job(port, unique="2")
    assert not converge()["changed"]


def test_drain_restarts_when_the_workers_are_done(converge, child, port, host):
    converge()
    queue_job(port)
    with contextlib.closing(Connection("127.0.0.1", port, 60)) as worker:
        threading.Timer(1, do_one_job, [worker]).start()
        result = converge(threads=5, restart="drain", drain_timeout=20)
    assert result["restarted"]
    assert result["lost"] == {}
    assert child.starts == 2


def test_stopped(converge, child, port, host):
    converge()
    queue_job(port)
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(state="stopped")
    with pytest.raises(InvalidOption, match="leaves gearmand running"):
        converge(state="stopped", restart="never")
    assert converge(check_mode=True, state="stopped", restart="force")["changed"]
    assert child.process() is not None
    result = converge(state="stopped", restart="force")
    assert result["lost"] == {"resize": {"queued": 1, "running": 0}}
    assert child.process() is None
    assert not converge(state="stopped")["changed"]
    assert converge()["actions"] == ["start gearmand"]


def test_restarted_without_a_change(converge, child, port, host):
    converge()
    assert converge(state="restarted")["restarted"]
    assert child.starts == 2
    queue_job(port)
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(state="restarted")


def test_a_server_that_does_not_start_is_taken_back(converge, child, port, root, host):
    converge()
    queue = sqlite(root)
    broken = root / "queue" / "queue.sqlite3"
    broken.write_text("This is no database, and long enough for SQLite to see that." * 3)
    os.chmod(broken, 0o666)
    with pytest.raises(GearvisorError) as caught:
        converge(queue=queue)
    assert "it ended at once. The old configuration is back" in str(caught.value)
    assert caught.value.details["log"] == "the last line"
    assert "--queue-type=builtin\n" in text(host)
    assert not converge()["changed"]


def test_a_first_server_that_does_not_start_leaves_no_file(converge, child, root, host):
    queue = sqlite(root)
    broken = root / "queue" / "queue.sqlite3"
    broken.write_text("This is no database, and long enough for SQLite to see that." * 3)
    os.chmod(broken, 0o666)
    with pytest.raises(GearvisorError, match="It was stopped, and the old files are back"):
        converge(queue=queue)
    assert not os.path.exists(host.path(config.CONFIG))


def test_files_that_cannot_be_written_do_not_cost_the_server(
    converge, child, monkeypatch, host, port
):
    converge()
    pid = child.process().pid
    broken = iter([OSError("No space left on device")])

    def restart():
        for error in broken:
            raise error

    monkeypatch.setattr(child, "restart", restart)
    with pytest.raises(GearvisorError, match=r"No space left .* the server was not touched"):
        converge(threads=6)
    monkeypatch.undo()
    assert child.process().pid == pid
    assert "--threads=4\n" in text(host)
    # It takes jobs, and none of the drain's own is counted.
    assert not converge()["changed"]
    queue_job(port)
    assert converge(threads=6, restart="force")["lost"] == {"resize": {"queued": 1, "running": 0}}


@pytest.mark.parametrize(
    ("candidate", "actions"),
    [
        ("1.1.20+ds-1", []),
        (
            "1.1.21+ds-1",
            ["install gearman-job-server=1.1.21+ds-1", "restart gearmand once its jobs are done"],
        ),
    ],
)
def test_the_latest_version(converge, commands, candidate, actions):
    converge()
    commands.candidate = candidate
    assert converge(check_mode=True, version="latest")["actions"] == actions


def test_anothers_file_is_left_alone(converge, child, host):
    path = host.path(config.CONFIG)
    os.makedirs(os.path.dirname(path))
    with open(path, "w", encoding="utf-8") as file:
        file.write("--port=4730\n")
    with pytest.raises(GearvisorError, match="was not written by this module"):
        converge()
    assert text(host) == "--port=4730\n"


def test_taking_over_one_that_was_started_by_hand(converge, child, host, port):
    """Its options that go away are named, and Debian's file states that it is not read."""
    address = ["--listen=127.0.0.1", f"--port={port}", "--log-file=none"]
    options = ["--exceptions", "--hashtable-buckets=2000", "-t", "8"]
    child.child = child._start([config.GEARMAND, *address, *options], port)
    defaults = host.path(config.DEFAULTS)
    os.makedirs(os.path.dirname(defaults))
    with open(defaults, "w", encoding="utf-8") as file:
        file.write('PARAMS="--exceptions --mysql-password=Hunter2"\n')
    os.chmod(defaults, 0o600)
    planned = converge(check_mode=True)
    result = converge(exceptions=True)
    for warnings, count in ((planned["warnings"], 3), (result["warnings"], 2)):
        assert len(warnings) == count
        assert any("--hashtable-buckets=2000 goes away" in warning for warning in warnings)
        assert any("--threads=8 becomes 4" in warning for warning in warnings)
    assert result["restarted"]
    assert "Hunter2" not in str(result)
    with open(defaults, encoding="utf-8") as file:
        marked = file.read()
    assert marked.startswith("# Gearvisor")
    assert os.stat(defaults).st_mode & 0o777 == 0o600
    again = converge(exceptions=True)
    assert not again["changed"]
    assert again["warnings"] == []
    converge(state="absent")
    with open(defaults, encoding="utf-8") as file:
        assert file.read() == 'PARAMS="--exceptions --mysql-password=Hunter2"\n'


def test_a_queue_that_would_outlive_it_is_not_left_behind(converge, child, host, port, root):
    queue = sqlite(root)
    converge(queue=queue)
    queue_job(port)
    with pytest.raises(InvalidOption, match=r"would leave behind .*move_queue"):
        converge(queue=queue, state="absent")
    result = converge(queue=queue, state="absent", restart="force")
    assert "The queue stays, with 1 job" in result["warnings"][0]
    assert os.path.exists(root / "queue" / "queue.sqlite3")


def test_functions_that_cannot_be_closed_are_named_first(converge, child, port):
    converge()
    with contextlib.closing(Connection("127.0.0.1", port, 60)) as worker:
        worker.send(encode(Packet.CAN_DO, b"send mail") + encode(Packet.ECHO_REQ, b"x"))
        worker.receive(60)
        for restart in ("auto", "drain"):
            with pytest.raises(InvalidOption, match="cannot close 'send mail' to new jobs"):
                converge(threads=5, restart=restart)
        assert child.starts == 1
    # Without its worker it does not stand in the way.
    wait_until_left(port, "send mail")
    assert converge(threads=5)["restarted"]


def test_absent(converge, child, port, host, commands):
    converge()
    queue_job(port)
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(state="absent")
    with pytest.raises(InvalidOption, match="leaves gearmand running"):
        converge(state="absent", restart="never")
    planned = converge(check_mode=True, state="absent", restart="force")
    assert planned["changed"]
    assert os.path.exists(host.path(config.CONFIG))
    result = converge(state="absent", restart="force")
    assert result["lost"] == {"resize": {"queued": 1, "running": 0}}
    assert commands.removed == [package_version.PACKAGE]
    assert child.process() is None
    assert not os.path.exists(host.path(config.CONFIG))


def test_absent_that_drains_too_long_takes_nothing_away(converge, child, port, host, commands):
    converge()
    queue_job(port)
    with pytest.raises(Refused, match="Nothing was removed"):
        converge(state="absent", restart="drain", drain_timeout=1)
    assert "--threads=4\n" in text(host)
    assert commands.removed == []
