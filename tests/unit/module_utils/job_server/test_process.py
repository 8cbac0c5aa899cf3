from __future__ import annotations

import os
import socket

from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import config
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server.process import (
    Process,
    gearmands_with,
)


def test_a_gearmand(gearmand, port):
    process = Process(gearmand.pid)
    assert process.runs_gearmand()
    assert not process.replaced()
    assert process.name() == "gearmand"
    assert process.argv()[0] == config.GEARMAND
    assert process.file_limit() <= process.hard_file_limit()
    assert process.socket_inodes()
    assert not process.in_container()
    assert [found.pid for found in gearmands_with(f"--port={port}")] == [gearmand.pid]
    identity = process.identity()
    assert identity.startswith(f"{gearmand.pid} ")
    gearmand.kill()
    gearmand.wait()
    assert not process.runs_gearmand()
    assert process.identity() is None


def test_others_are_none():
    assert not Process(os.getpid()).runs_gearmand()
    assert not Process(0).runs_gearmand()
    assert gearmands_with("--no-such-argument") == []


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
    process = made(tmp_path, f"{config.GEARMAND} (deleted)", [config.GEARMAND])
    assert process.runs_gearmand()
    assert process.replaced()


def test_a_hidden_executable_is_known_by_its_command_line(tmp_path):
    process = made(tmp_path, None, [config.GEARMAND, "--daemon"])
    assert process.runs_gearmand()
    assert not process.replaced()


def test_an_editor_of_gearmand_is_no_gearmand(tmp_path):
    assert not made(tmp_path, "/usr/bin/vi", ["vi", config.GEARMAND]).runs_gearmand()


def test_a_containers_gearmand_is_not_the_hosts(tmp_path):
    argv = [config.GEARMAND, "--daemon"]
    assert made(tmp_path, config.GEARMAND, argv, "Pid:\t7\nNSpid:\t7\t1\n").in_container()
    assert gearmands_with("--daemon", tmp_path) == []
