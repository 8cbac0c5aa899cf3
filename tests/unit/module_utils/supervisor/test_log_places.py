# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs that others could redirect, or that supervisord cannot open."""

import os
import pwd
import signal
import socket

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import log_places
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.log_places import (
    Surroundings,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.sections import Section

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="others are other users than root")
OTHER = pwd.getpwnam("www-data")


def problems(surroundings=None, kind="program", **options):
    section = Section("mail", "mail_00", {"command": "/bin/x", **options}, kind)
    return [str(found) for found in log_places.problems(section, surroundings or Surroundings())]


def of_other(path):
    os.chown(path, OTHER.pw_uid, OTHER.pw_gid, follow_symlinks=False)
    return path


@pytest.fixture
def places(tmp_path):
    """Directories and files that others control in each way that there is, and one that is root's."""
    for name in ("root", "of-user", "open", "group", "above"):
        (tmp_path / name).mkdir()
    of_other(tmp_path / "of-user")
    (tmp_path / "open").chmod(0o777)
    os.chown(tmp_path / "group", 0, OTHER.pw_gid)
    (tmp_path / "group").chmod(0o775)
    of_other(tmp_path / "above")
    (tmp_path / "above/deep/er").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to(tmp_path / "of-user")
    (tmp_path / "root/link.log").symlink_to(tmp_path / "of-user/x.log")
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    (tmp_path / "sticky/theirs.log").write_text("")
    of_other(tmp_path / "sticky/theirs.log")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "weak"),
    [
        ("of-user/x.log", "of-user belongs to user www-data"),
        ("of-user/new/deep/x.log", "of-user belongs to user www-data"),
        ("open/x.log", "open can be written by all users"),
        ("group/x.log", "group can be written by the group www-data"),
        ("above/deep/er/x.log", "above belongs to user www-data"),
        ("root/link/x.log", "of-user belongs to user www-data"),
        ("root/link.log", "of-user belongs to user www-data"),
        ("sticky/new.log", "sticky is open to all users"),
        ("sticky/theirs.log", "theirs.log belongs to user www-data"),
    ],
)
@pytest.mark.parametrize("option", ["stdout_logfile", "stderr_logfile"])
@pytest.mark.parametrize("kind", ["program", "eventlistener", "fcgi-program"])
def test_a_log_that_others_could_redirect_is_refused(places, path, weak, option, kind):
    value = f"{places}/{path}"
    (message,) = problems(kind=kind, **{option: value})
    assert f".mail.{option}: {value!r} " in message
    assert weak in message
    assert f"Write {option}: /var/log/gearman-worker/{os.path.basename(path)}" in message
    if "belongs to" in weak:
        assert "gearman_trusted_users: [www-data]" in message
        assert "become root" in message
        trusting = Surroundings(trusted_users=("www-data",))
        assert problems(trusting, **{option: value}) == []


@pytest.mark.parametrize("path", ["root/x.log", "root/new/deep/x.log", "not-there/x.log"])
def test_a_log_that_is_roots(places, path):
    assert problems(stdout_logfile=f"{places}/{path}") == []


@pytest.mark.parametrize(
    "value",
    [
        "%(here)s/x.log",
        "%(ENV_PLACE)s/x.log",
        "%(ENV_PLACE)s/%(program_name)s_%(process_num)02d.log",
        "%(ENV_PLACE)s/%(host_node_name)s.%(group_name)s.log",
    ],
)
def test_a_log_is_judged_by_where_it_expands_to(places, value):
    surroundings = Surroundings(
        config=f"{places}/of-user/supervisord.conf", environment={"PLACE": f"{places}/of-user"}
    )
    (message,) = problems(surroundings, stdout_logfile=value)
    assert "belongs to user www-data" in message


@pytest.mark.parametrize("value", ["AUTO", "NONE", "off", "syslog", "/dev/null", "%(ENV_NO)s/x"])
def test_what_is_no_file_is_not_judged(value):
    assert problems(stdout_logfile=value, stderr_logfile=value) == []


@pytest.mark.parametrize("kind", ["directory", "pipe", "socket", "below a file"])
def test_a_log_that_cannot_be_one(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.write_text("")
        path = path / "x.log"
    (message,) = problems(stdout_logfile=str(path))
    assert "programs.mail.stdout_logfile" in message
    assert kind in message
    assert "Name a file" in message


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("/dev/stdout", True),
        ("/dev/fd/1", True),
        ("/proc/self/fd/1", True),
        ("/dev/stderr", False),
        ("/dev/null", False),
    ],
)
def test_a_device_is_refused_where_supervisord_has_a_socket_there(value, refused):
    """As under systemd, where the standard output is the journal's socket."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        os.dup2(theirs.fileno(), 1)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        theirs.send(b"x")
        signal.pause()
        os._exit(0)
    try:
        ours.recv(1)
        found = problems(Surroundings(pid=child), stdout_logfile=value)
        assert bool(found) is refused
        if refused:
            assert "socket of the journal" in found[0]
            assert "stdout_syslog: true" in found[0]
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        ours.close()
        theirs.close()


def test_the_link_trick_of_a_workers_user_is_refused_by_the_module(daemon):
    """L10: the worker replaces its log by a link into /etc/cron.d, and root follows it."""
    home = daemon.directory / "rl"
    home.mkdir()
    of_other(home)
    program = {
        "command": "/bin/sleep 60",
        "user": "www-data",
        "directory": str(home),
        "stdout_logfile": f"{home}/app.log",
    }
    with pytest.raises(Exception, match="belongs to user www-data"):
        daemon.converge({"app": program})
    assert daemon.states() == {}
    assert daemon.files() == {}
    assert list(home.iterdir()) == []
    result = daemon.converge({"app": program}, check_mode=True)
    assert any("belongs to user www-data" in text for text in result["warnings"])
    daemon.converge({"app": program}, trusted_users=("www-data",))
    assert [path.name for path in home.iterdir()] == ["app.log"]
