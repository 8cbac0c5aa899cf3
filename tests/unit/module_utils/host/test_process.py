from __future__ import annotations

import os
import signal
import socket
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.process import (
    Process,
    running,
)

GEARMAND = "/usr/sbin/gearmand"
SLEEP = "/usr/bin/sleep"


@pytest.fixture
def child():
    """The Popen of a program that runs until the test ends."""
    started = subprocess.Popen([SLEEP, "600"])
    yield started
    started.kill()
    started.wait()


def test_a_process(child):
    process = Process(child.pid)
    assert process.runs(SLEEP)
    assert not process.runs("/usr/bin/true")
    assert not process.replaced()
    assert process.name() == "sleep"
    assert process.argv() == [SLEEP, "600"]
    assert process.file_limit() <= process.hard_file_limit()
    assert not process.in_container()
    assert child.pid in [found.pid for found in running(SLEEP, "600")]
    assert process.identity().startswith(f"{child.pid} ")
    child.kill()
    child.wait()
    assert not process.runs(SLEEP)
    assert process.identity() is None


def test_others_are_none():
    assert not Process(os.getpid()).runs(GEARMAND)
    assert not Process(0).runs(GEARMAND)
    assert running(SLEEP, "--no-such-argument") == []


def test_wait_gone(child):
    process = Process(child.pid)
    assert not process.wait_gone(0.1)
    os.kill(child.pid, signal.SIGTERM)
    assert process.wait_gone(10)


def test_sockets():
    with socket.socket() as ours:
        inode = str(os.fstat(ours.fileno()).st_ino)
        assert inode in Process(os.getpid()).socket_inodes()


def made(tmp_path, executable, argv, status=""):
    directory = tmp_path / "7"
    directory.mkdir()
    if executable:
        (directory / "exe").symlink_to(executable)
    (directory / "cmdline").write_text("".join(f"{word}\0" for word in argv))
    (directory / "status").write_text(status)
    return Process(7, tmp_path)


def test_a_replaced_executable(tmp_path):
    process = made(tmp_path, f"{GEARMAND} (deleted)", [GEARMAND])
    assert process.runs(GEARMAND)
    assert process.replaced()


def test_a_hidden_executable_is_known_by_its_command_line(tmp_path):
    process = made(tmp_path, None, [GEARMAND, "--daemon"])
    assert process.runs(GEARMAND)
    assert not process.replaced()


def test_an_editor_of_gearmand_is_no_gearmand(tmp_path):
    assert not made(tmp_path, "/usr/bin/vi", ["vi", GEARMAND]).runs(GEARMAND)


def test_a_containers_gearmand_is_not_the_hosts(tmp_path):
    argv = [GEARMAND, "--daemon"]
    assert made(tmp_path, GEARMAND, argv, "Pid:\t7\nNSpid:\t7\t1\n").in_container()
    assert running(GEARMAND, "--daemon", tmp_path) == []
