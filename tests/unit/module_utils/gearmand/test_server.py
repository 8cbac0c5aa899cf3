"""The decisions as tables; the sequence with a real gearmand, kept by a plain child process."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearman.admin import (
    Admin,
    FunctionStatus,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearman.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearmand import (
    config,
    server,
    service,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearmand.process import Process

JOBS = {"resize": FunctionStatus(3, 1, 2), "mail": FunctionStatus(0, 1, 1)}


@pytest.mark.parametrize(
    ("restart", "jobs", "kept", "expected"),
    [
        ("auto", {}, False, server.Decision("drain", {})),
        ("auto", {}, True, server.Decision("restart", {})),
        ("auto", JOBS, True, server.Decision("restart", {})),
        ("drain", JOBS, False, server.Decision("drain", {})),
        ("drain", None, False, server.Decision("drain", {})),
        ("force", JOBS, False, server.Decision("restart", JOBS)),
        ("force", JOBS, True, server.Decision("restart", {})),
        ("force", None, False, server.Decision("restart", {})),
        ("never", JOBS, False, server.Decision("leave", {})),
        ("never", None, False, server.Decision("leave", {})),
    ],
)
def test_decide(restart, jobs, kept, expected):
    assert server.decide(restart, jobs, kept) == expected


def test_jobs_are_not_lost_unasked():
    with pytest.raises(InvalidOption) as caught:
        server.decide("auto", JOBS, False)
    told = str(caught.value)
    assert "would lose 5 jobs: resize (3 queued, 1 running), mail (0 queued, 1 running)" in told
    assert all(way in told for way in ("drain", "force", "never"))
    assert caught.value.details["lost"]["resize"] == {"queued": 3, "running": 1}


@pytest.mark.parametrize("kept", [True, False])
def test_an_unknown_number_of_jobs_is_not_lost_unasked(kept):
    with pytest.raises(InvalidOption, match="does not answer"):
        server.decide("auto", None, kept)


def test_jobs_text_stays_short():
    jobs = {f"f{number:03}": FunctionStatus(number, 0, 0) for number in range(1, 101)}
    text = server.jobs_text(jobs)
    assert text.startswith("5050 jobs: f100 (100 queued, 0 running), f099")
    assert text.endswith("and 90 more functions")
    assert server.jobs_text({"a": FunctionStatus(1, 0, 0)}).startswith("1 job: ")


class Child:
    """A service manager with the methods of service.Systemd: gearmand is a child of the test."""

    name = "child"

    def __init__(self, start, path):
        self._start = start
        self.command = [config.GEARMAND, f"--config-file={path}", "--log-file=none"]
        self.child = None
        self.starts = 0

    def files(self, _settings):
        return {}

    def file_descriptors(self, _settings):
        return None

    def process(self):
        if self.child is None or self.child.poll() is not None:
            return None
        process = Process(self.child.pid)
        return process if process.runs_gearmand() else None

    def enabled(self):
        return True

    def preview(self, _wanted):
        return service.Preview()

    def settle(self):
        pass

    def reload(self):
        pass

    def start(self):
        if self.process() is None:
            self.starts += 1
            self.child = self._start(self.command)

    def restart(self):
        self.stop(True)
        self.start()

    def stop(self, _enabled):
        if self.child is not None:
            self.child.terminate()
            self.child.wait()

    def remove(self):
        self.stop(False)

    def crashed(self):
        return self.child is not None and self.child.poll() not in (None, 0)

    def last_lines(self):
        return "the last line"


def run(argv, environ_update=None):
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def child(start, tmp_path, monkeypatch):
    """A host whose files are in tmp_path, and whose package is there already."""
    if os.geteuid() != 0:
        pytest.skip("the files belong to root")
    path = tmp_path / "etc" / "gearmand.conf"
    # gearmand runs as the test's own user, who is root.
    monkeypatch.setattr(config, "CONFIG", str(path))
    monkeypatch.setattr(server, "NOTE", str(tmp_path / "note.json"))
    monkeypatch.setattr(server, "_gearman", lambda: (0, 0))
    monkeypatch.setattr(server, "_as_gearman", lambda: [])
    monkeypatch.setattr(
        server.packages, "installed_versions", lambda _run, _names: {server.PACKAGE: "1.1.20+ds-1"}
    )
    removed = []
    monkeypatch.setattr(server.packages, "remove", lambda _run, names: removed.extend(names))
    result = Child(start, path)
    result.removed = removed
    monkeypatch.setattr(service, "choose", lambda *_: result)
    yield result
    result.stop(True)


@pytest.fixture
def converge(child, port):
    """Call it with settings and with options of the Request."""

    def do(check_mode=False, queue=None, threads=4, **options):
        settings = config.Settings(port=port, threads=threads, queue=queue or config.Queue())
        return server.converge(
            server.Request(settings, ready_timeout=5, **options), run, check_mode
        )

    return do


def queue_job(port, function="resize", unique="1"):
    with Client([f"127.0.0.1:{port}"]) as client:
        client.submit(function, b"data", background=True, unique=unique)


def text():
    with open(config.CONFIG, encoding="utf-8") as file:
        return file.read()


def test_first_run_second_run_and_a_change(converge, child, port):
    planned = converge(check_mode=True)
    assert planned["changed"]
    assert planned["actions"] == ["start gearmand"]
    assert planned["version"] is None
    assert not os.path.exists(config.CONFIG)

    first = converge()
    assert first["changed"]
    assert first["files"] == [config.CONFIG]
    assert first["server"] == f"127.0.0.1:{port}"
    assert first["version"].startswith("1.")
    assert not first["restarted"]
    assert os.stat(config.CONFIG).st_mode & 0o777 == 0o640

    second = converge()
    assert not second["changed"]
    assert second["diff"] == []

    changed = converge(threads=5)
    assert changed["restarted"]
    assert "--threads=4\n" in changed["diff"][0]["before"]
    assert child.starts == 2
    assert not converge(threads=5)["changed"]


def test_queued_jobs_are_not_lost_unasked(converge, child, port):
    converge()
    queue_job(port)
    for check_mode in (True, False):
        with pytest.raises(InvalidOption, match=r"would lose 1 job: resize \(1 queued"):
            converge(check_mode, threads=5)
    assert "--threads=4\n" in text()
    assert not converge()["changed"]
    result = converge(threads=5, restart="force")
    assert result["lost"] == {"resize": {"queued": 1, "running": 0}}
    assert child.starts == 2


def test_never_leaves_the_restart_pending_until_it_is_done(converge, child, port):
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


def test_the_running_queue_counts_not_the_one_in_the_file(converge, child, port, tmp_path):
    persistent = config.Queue("libsqlite3", str(tmp_path / "queue.sqlite3"), "jobs")
    converge()
    queue_job(port)
    converge(queue=persistent, restart="never")
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(queue=persistent)


def test_jobs_in_a_file_survive_a_restart(converge, child, port, tmp_path):
    persistent = config.Queue("libsqlite3", str(tmp_path / "queue.sqlite3"), "jobs")
    converge(queue=persistent)
    queue_job(port)
    assert converge(queue=persistent, threads=5)["restarted"]
    with Admin(f"127.0.0.1:{port}") as admin:
        assert server.jobs_of(admin) == {"resize": FunctionStatus(1, 0, 0)}
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge()


def test_a_drain_that_takes_too_long_kills_nothing(converge, child, port):
    converge()
    queue_job(port)
    with pytest.raises(server.Drains) as caught:
        converge(threads=5, restart="drain", drain_timeout=1)
    assert caught.value.details["left"] == {"resize": {"queued": 1, "running": 0}}
    assert child.process() is not None
    assert "--threads=5\n" in text()
    with pytest.raises(InvalidOption, match="still draining"):
        converge(threads=5)


def test_a_server_that_does_not_start_is_taken_back(converge, child, port, tmp_path):
    converge()
    broken = tmp_path / "queue.sqlite3"
    broken.write_text("This is no database, and long enough for SQLite to see that." * 3)
    queue = config.Queue("libsqlite3", str(broken), "jobs")
    with pytest.raises(GearvisorError) as caught:
        converge(queue=queue)
    assert "it ended at once. The old configuration is back" in str(caught.value)
    assert caught.value.details["log"] == "the last line"
    assert "--queue-type=builtin\n" in text()
    assert not converge()["changed"]


def test_a_first_server_that_does_not_start_leaves_no_file(converge, child, tmp_path):
    broken = tmp_path / "queue.sqlite3"
    broken.write_text("This is no database, and long enough for SQLite to see that." * 3)
    with pytest.raises(GearvisorError, match="It was stopped, and the old files are back"):
        converge(queue=config.Queue("libsqlite3", str(broken), "jobs"))
    assert not os.path.exists(config.CONFIG)


def test_files_that_cannot_be_written_do_not_cost_the_server(converge, child, monkeypatch):
    converge()
    pid = child.process().pid
    broken = iter([OSError("No space left on device")])

    def reload():
        for error in broken:
            raise error

    monkeypatch.setattr(child, "reload", reload)
    with pytest.raises(GearvisorError, match=r"No space left .* the server was not touched"):
        converge(threads=6)
    assert child.process().pid == pid
    assert not converge()["changed"]


def test_anothers_file_is_left_alone(converge, child):
    os.mkdir(os.path.dirname(config.CONFIG))
    with open(config.CONFIG, "w", encoding="utf-8") as file:
        file.write("--port=4730\n")
    with pytest.raises(GearvisorError, match="was not written by this module"):
        converge()
    assert text() == "--port=4730\n"


def test_absent(converge, child, port):
    converge()
    queue_job(port)
    with pytest.raises(InvalidOption, match="would lose 1 job"):
        converge(state="absent")
    with pytest.raises(InvalidOption, match="leaves gearmand running"):
        converge(state="absent", restart="never")
    planned = converge(check_mode=True, state="absent", restart="force")
    assert planned["changed"]
    assert os.path.exists(config.CONFIG)
    result = converge(state="absent", restart="force")
    assert result["lost"] == {"resize": {"queued": 1, "running": 0}}
    assert child.removed == [server.PACKAGE]
    assert child.process() is None
    assert not os.path.exists(config.CONFIG)


def test_absent_that_drains_too_long_takes_nothing_away(converge, child, port):
    converge()
    queue_job(port)
    with pytest.raises(server.Drains, match="Nothing was removed"):
        converge(state="absent", restart="drain", drain_timeout=1)
    assert "--threads=4\n" in text()
    assert child.removed == []


def test_wait_gone(gearmand):
    process = Process(gearmand.pid)
    assert not service.wait_gone(process, 0.1)
    os.kill(gearmand.pid, signal.SIGUSR1)
    assert service.wait_gone(process, 5)
