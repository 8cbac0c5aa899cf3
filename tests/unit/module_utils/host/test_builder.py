# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs as the builder has no rights, no secrets and no way to outlive its block."""

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.builder import Builder
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run_command(argv, environ_update=None, cwd=None):
    environment = {**os.environ, **(environ_update or {})}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=environment)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def builder():
    with Builder(Host(run_command).run) as made:
        yield made


@pytest.fixture
def directory(builder):
    with tempfile.TemporaryDirectory(prefix="gearvisor-test-") as path:
        os.chmod(path, 0o755)
        inner = Path(path, "given")
        inner.mkdir()
        builder.give(inner)
        yield inner


def sh(builder, script, directory="/"):
    rc, out, err = builder.run(["sh", "-c", script], cwd=str(directory))
    assert rc == 0, err
    return out


def test_it_is_nobody_known_and_gains_nothing(builder):
    uid, gid, groups, privileges = sh(
        builder, "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status"
    ).splitlines()
    assert uid == gid == groups == str(builder.uid)
    assert int(uid) not in (0, os.getuid())
    assert privileges.split()[1] == "1"


@pytest.mark.parametrize("path", ["/etc/shadow", "/root/.profile"])
def test_it_cannot_read_what_is_roots(builder, path):
    assert builder.run(["cat", path])[0] != 0


def test_it_gets_its_own_environment_only(builder, monkeypatch):
    monkeypatch.setenv("SECRET_OF_ROOT", "x")
    rc, out, _err = builder.run(["env"], environment={"TOKEN": "hidden"})
    assert rc == 0
    names = {line.partition("=")[0] for line in out.splitlines()}
    assert "TOKEN" in names and "SECRET_OF_ROOT" not in names
    assert "hidden" not in " ".join(builder.command(["env"], {"TOKEN": "hidden"}))


def processes_of(uid):
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if path.stat().st_uid == uid:
                    found.append(path.name)
            except OSError:
                pass
    return found


def test_what_it_left_running_ends_with_the_block():
    with Builder(Host(run_command).run) as builder:
        sh(builder, "setsid sh -c 'while :; do sleep 0.01; done' >/dev/null 2>&1 &")
        assert processes_of(builder.uid)
    deadline = time.monotonic() + 60
    while processes_of(builder.uid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_command_that_hangs_is_ended(builder):
    assert builder.run(["sleep", "1000"], seconds=0.2)[0] == 124


def test_sealed_it_is_roots_and_readable_by_all(builder, directory):
    sh(
        builder,
        "umask 077; mkdir -p a/b; echo x >a/b/file; echo y >tool; chmod 6777 tool; ln a/b/file hard;"
        " ln -s /etc/passwd link",
        directory,
    )
    builder.seal(str(directory))
    modes = {
        str(path.relative_to(directory)): (path.lstat().st_uid, path.lstat().st_mode & 0o7777)
        for path in directory.rglob("*")
    }
    assert {uid for uid, _mode in modes.values()} == {0}
    assert modes["a/b"][1] == 0o755 and modes["a/b/file"][1] == 0o644 and modes["tool"][1] == 0o755
    assert os.stat("/etc/passwd").st_uid == 0


def test_nothing_is_written_after_the_seal(builder, directory):
    sh(
        builder,
        "exec 3>file; (while :; do echo x >&3; sleep 0.01; done) >/dev/null 2>&1 &",
        directory,
    )
    builder.seal(str(directory))
    size = (directory / "file").stat().st_size
    time.sleep(0.1)
    assert (directory / "file").stat().st_size == size


def foreign_file(directory):
    path = directory / "foreign"
    path.write_text("of another user")
    os.chown(path, 12345, 12345)


def hard_link(directory):
    secret = directory.parent / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    os.link(secret, directory / "hard")


@pytest.mark.parametrize(
    "place",
    [
        foreign_file,
        hard_link,
        lambda directory: os.mkfifo(directory / "fifo"),
        lambda directory: socket.socket(socket.AF_UNIX).bind(str(directory / "socket")),
        lambda directory: os.makedirs(directory / "/".join("d" * 70)),
    ],
    ids=["foreign", "hard link", "fifo", "socket", "deep"],
)
def test_what_has_no_place_there_is_refused(builder, directory, place):
    place(directory)
    with pytest.raises(GearvisorError, match=str(directory)):
        builder.seal(str(directory))
    secret = directory.parent / "secret"
    assert not secret.exists() or secret.stat().st_mode & 0o777 == 0o600
