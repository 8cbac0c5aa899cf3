"""Releases, good and bad ones, rolled out on a real supervisord with real workers while jobs flow."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.errors import (
    GearmanError,
)

pytestmark = pytest.mark.supervisords("one")

ROOT = pathlib.Path(__file__).resolve().parents[4]
WORKER = pathlib.Path(__file__).with_name("release_worker.py")
PROCESSES = 4
GOOD = """\
import time


def work(data):
    time.sleep(0.02)
    return data


FUNCTIONS = {'work': work, 'other': work}
"""
BAD = {
    "import error": ("import no_such_module\n", "does not (start|come up)"),
    "exits after a while": (
        GOOD
        + "print('database password is wrong', flush=True)\ntime.sleep(1.5)\nraise SystemExit(1)\n",
        "it ended and was started again: exit status 1",
    ),
    "leaves in order after a while": (GOOD + "time.sleep(1.5)\nraise SystemExit(0)\n", "ended"),
    "never registers": (GOOD + "REGISTERS = False\n", "is not registered with"),
    "forgets a function": (
        GOOD + "del FUNCTIONS['other']\n",
        "is not registered with .* for other",
    ),
    "fails every job": (GOOD.replace("return data", "raise ValueError(data)"), "jobs failed"),
    "fails a third of its jobs": (
        GOOD.replace(
            "    return data",
            "    count.append(1)\n    if len(count) % 3 == 0:\n        raise ValueError(data)\n    return data",
        )
        + "count = []\n",
        "jobs failed",
    ),
    "hangs in its first job": (GOOD.replace("0.02", "600"), "no job was finished"),
}


@pytest.fixture
def job_server():
    """The address of a gearmand of its own."""
    if not os.path.exists("/usr/sbin/gearmand"):
        pytest.skip("Debian's gearman-job-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = ["--listen=127.0.0.1", f"--port={port}", "--log-file=none", "--job-retries=3"]
    process = subprocess.Popen(["/usr/sbin/gearmand", *argv], stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    process.kill()
    process.wait()


class Site:
    """A fleet of PROCESSES workers, its releases and its load."""

    def __init__(self, daemon, server):
        self.daemon = daemon
        self.server = server
        self.link = daemon.directory / "srv/current"
        self.failed, self.answered = [], 0
        self._ends = threading.Event()
        self._threads = []

    def release(self, name, app):
        path = self.daemon.directory / "srv/releases" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "app.py").write_text(app)
        return path

    def deploy(self, path, **options):
        program = {
            "command": f"{sys.executable} {WORKER} {self.link}/app.py {self.daemon.where.runtime}",
            "numprocs": PROCESSES,
            "autorestart": True,
            "startretries": 60,
            "stopwaitsecs": 2,
            "environment": {
                "GEARVISOR_SERVERS": self.server,
                "PYTHONPATH": str(ROOT / "python/src"),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        }
        if path is not None:
            program["release"] = {"link": str(self.link), "target": str(path)}
        given = {"stable": 2, "wait_timeout": 5, "watch": 5, "watch_jobs": 12, "min_jobs": 3}
        return self.daemon.converge(
            {"work": program}, inventory_hostname="web1", **{**given, **options}
        )

    def releases(self):
        """{process: the release that it runs from}, by the processes themselves."""
        return {
            name: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[2].decode()
            for name, pid in self.daemon.pids().items()
        }

    def __enter__(self):
        self._threads = [threading.Thread(target=self._load) for _client in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _load(self):
        with Client([self.server], timeout=60) as client:
            while not self._ends.is_set():
                try:
                    assert client.submit("work", b"x").data == b"x"
                    self.answered += 1
                except GearmanError as error:
                    self.failed.append(str(error))


@pytest.fixture
def site(daemon, job_server):
    return Site(daemon, job_server)


def test_good_releases_go_there_and_back(site):
    one, two = site.release("1", GOOD), site.release("2", GOOD + "# 2\n")
    result = site.deploy(one)
    assert (result["release"]["before"], result["release"]["after"]) == (None, str(one))
    assert os.readlink(site.link) == str(one)
    assert not site.deploy(one)["changed"]
    with site:
        result = site.deploy(two, batch="50%")
    assert (result["release"]["before"], result["release"]["after"]) == (str(one), str(two))
    assert {path: len(names) for path, names in result["release"]["processes"].items()} == {
        str(two): PROCESSES
    }
    assert result["proved"]
    assert result["watched"]["work"]["failed"] == 0
    assert result["watched"]["work"]["jobs"] >= 12
    assert os.readlink(site.link) == str(two)
    assert set(site.releases().values()) == {f"{two}/app.py"}
    assert site.failed == []
    assert site.answered > 0
    # Back is the same as there, and nothing to do is nothing done.
    assert site.deploy(one, watch=0)["changed"]
    assert not site.deploy(one)["changed"]
    assert set(site.releases().values()) == {f"{one}/app.py"}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_release_touches_one_batch_and_goes_back(site, bad):
    app, told = BAD[bad]
    one, two = site.release("1", GOOD), site.release("2", app)
    site.deploy(one)
    before = site.daemon.pids()
    with site, pytest.raises(GearvisorError, match=told) as caught:
        time.sleep(0.5)
        site.deploy(two)
    message = str(caught.value)
    assert "The old definition is back" in message
    assert f"{site.link} leads to {one}" in message
    assert f"On the release {one}: " in message
    assert str(two) not in message
    assert os.readlink(site.link) == str(one)
    assert set(site.releases().values()) == {f"{one}/app.py"}
    after = site.daemon.pids()
    assert [name for name in before if before[name] != after[name]] == ["work_00:work_00"]
    if bad == "exits after a while":
        assert "database password is wrong" in caught.value.details["output"]
        assert "database password is wrong" not in message
    if not bad.startswith("fails"):
        assert site.failed == []
    assert site.answered > 0
    assert not site.deploy(one)["changed"]


def test_without_jobs_nothing_is_proved(site):
    site.deploy(site.release("1", GOOD))
    result = site.deploy(site.release("2", GOOD), watch=1)
    assert result["proved"] is False
    (warning,) = [text for text in result["warnings"] if "nothing is proved" in text]
    assert warning.startswith("work: its first batch finished 0 jobs")


def test_a_job_server_that_is_down_and_a_paused_function_are_named(site):
    one, two = site.release("1", GOOD), site.release("2", GOOD.replace(", 'other': work", ""))
    site.deploy(one)
    paused = pathlib.Path(site.daemon.where.paused)
    (paused / "other").touch()
    result = site.deploy(two, watch=0)
    assert any(
        "are paused on this host" in text and "'other'" in text for text in result["warnings"]
    )
    site.server = "127.0.0.1:1"
    result = site.deploy(two, watch=0, stable=1)
    assert any("127.0.0.1:1 did not answer" in text for text in result["warnings"])


def test_release_moved_first_comes_back_too(site):
    one, two = site.release("1", GOOD), site.release("2", "import no_such_module\n")
    site.deploy(one)
    with pytest.raises(GearvisorError, match=f"leads to {one}"):
        site.daemon.converge(
            {
                "work": {
                    "command": f"{sys.executable} {site.link}/app.py",
                    "startretries": 0,
                    "release": {"link": str(site.link), "target": str(two), "move": "first"},
                }
            },
            purge=True,
        )
    assert os.readlink(site.link) == str(one)


@pytest.mark.parametrize(
    ("prepare", "options", "problem"),
    [
        (lambda site: None, {}, "target: .* is not a directory on this host"),
        (lambda site: site.release("2", GOOD), {"layout": "numprocs"}, "cannot go in batches"),
        (
            lambda site: (site.release("2", GOOD), site.link.mkdir()),
            {},
            "link: .* is not a link",
        ),
    ],
    ids=["no target", "numprocs", "directory in its place"],
)
def test_refused(site, prepare, options, problem):
    prepare(site)
    with pytest.raises(InvalidOption, match=problem):
        site.deploy(site.daemon.directory / "srv/releases/2", **options)
    assert site.daemon.files() == {}
