import os
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import processes

# Starts a child that is marked as this process's, and goes.
LEAVES = """
import subprocess, sys
sys.path.insert(0, {path!r})
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import processes
import os
processes.MARK = {mark!r}
child = subprocess.Popen({command!r}, env={{**os.environ, **processes.mark({ends!r})}})
print(child.pid, flush=True)
"""


@pytest.fixture(autouse=True)
def own_mark(monkeypatch):
    """A mark of this test alone: runs of others on this machine take back what they find."""
    monkeypatch.setattr(processes, "MARK", f"GEARVISOR_TEST_{os.getpid()}")


def leave(*command, ends=True):
    path = next(entry for entry in sys.path if entry.endswith(".ansible/collections"))
    source = LEAVES.format(path=path, command=list(command), mark=processes.MARK, ends=ends)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as run:
        return int(run.stdout.readline())


def gone(pid):
    deadline = time.monotonic() + 60
    while processes.started(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return processes.started(pid) is None


def test_started_is_of_this_process_alone():
    with subprocess.Popen(["sleep", "60"]) as process:
        start = processes.started(process.pid)
        assert start == processes.started(process.pid)
        process.kill()
    assert processes.started(process.pid) is None
    assert processes.started(os.getpid()) is not None


def test_what_a_dead_run_started_is_ended():
    pid = leave("sleep", "600")
    assert processes.abandoned().get(pid) == "sleep"
    said = processes.end_abandoned(5)
    assert f"Ended sleep (pid {pid}), which an interrupted run had started" in said
    assert gone(pid)


def test_one_that_ignores_term_is_killed(monkeypatch):
    monkeypatch.setattr(processes, "_TERM_SECONDS", 0.3)
    pid = leave("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    assert processes.end_abandoned(5)
    assert gone(pid)


@pytest.mark.parametrize("ends", [True, False])
def test_apt_is_waited_for_not_killed(tmp_path, ends):
    apt = tmp_path / "apt-get"
    apt.write_text('#!/bin/sh\nsleep 1\ntouch "$0.done"\n')
    apt.chmod(0o755)
    pid = leave(str(apt), ends=ends)
    said = processes.end_abandoned(60)
    assert gone(pid)
    assert (tmp_path / "apt-get.done").exists()
    assert any(text.startswith("Waited for what an interrupted run had started: ") for text in said)


def test_a_service_that_a_package_has_started_is_left_alone():
    pid = leave("sleep", "60", ends=False)
    try:
        assert pid not in processes.abandoned()
        processes.end_abandoned(1)
        assert processes.started(pid) is not None
    finally:
        os.kill(pid, signal.SIGKILL)


def test_children_of_a_run_that_lives_are_left_alone():
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **processes.mark()}) as process:
        try:
            assert process.pid not in processes.abandoned()
        finally:
            process.kill()


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode != 0,
    reason="needs a pid namespace",
)
def test_runs_of_a_container_are_left_alone():
    """Its run has another pid there than here."""
    mark = f"{processes.MARK}=1:1"
    argv = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "env",
        mark,
        "sh",
        "-c",
        "echo; exec sleep 600",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as container:
        try:
            container.stdout.readline()
            (inner,) = (
                pid
                for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                if processes.environment(pid).get(processes.MARK.encode()) == b"1:1"
            )
            assert inner not in processes.abandoned()
        finally:
            container.kill()
