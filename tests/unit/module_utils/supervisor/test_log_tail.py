# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failing program has written is shown, whatever bytes it holds."""

import os

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.log_tail import (
    printable,
    tail,
)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[1;31;42m\x1b[Kred\x1b[m", "red"),
        (b"\x1b]0;title\x07rest", "rest"),
        (b"caf\xe9", "caf\ufffd"),
        ("größe".encode(), "größe"),
        (b"a\0b\x07c\x7f", "a\ufffdb\ufffdc\ufffd"),
        ("\u202etxt".encode(), "\ufffdtxt"),
        (b"one\r\ntwo", "one\ntwo"),
        (b"10%\r100%\n", "10%\n100%\n"),
        (b"\xef\xbb\xbfbom", "bom"),
        (b"\x1b(B\x1b[?25h\x1b7hi\x1b=", "hi"),
        (b"\xc2\x9b31mred\xc2\x9bm", "red"),
        (b"\x1bPq#0;2;0\x1b\\image", "image"),
        (b"\x1b[31", "\ufffd[31"),
        (b"\xff\xfe\xed\xa0\x80", "\ufffd" * 5),
    ],
)
def test_printable(data, text):
    assert printable(data) == text


def test_the_end_of_a_long_log_begins_with_a_whole_line(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert tail(log, 30).splitlines() == ["line 997", "line 998", "line 999"]
    log.write_text("x" * 1000)
    assert tail(log, 30) == "x" * 30


def test_what_is_no_log_file_of_its_own_is_empty(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for path in (
        "/not/there",
        tmp_path,
        tmp_path / "pipe",
        tmp_path / "link",
        "/dev/zero",
        "a\0b",
        "",
    ):
        assert tail(path) == ""


OUTPUTS = {
    "colours": (r"\\033[31mthe database is gone\\033[0m\\n", "the database is gone"),
    "latin-1": (r"caf\\351 ferm\\351\\n", "caf\ufffd ferm\ufffd"),
    "a NUL": (r"be\\000fore\\n", "be\ufffdfore"),
    "UTF-8": (r"gr\\303\\266\\303\\237e\\n", "größe"),
    "control characters": (r"\\007\\001bell\\n", "\ufffd\ufffdbell"),
}


@pytest.mark.supervisords("all")
@pytest.mark.parametrize(("written", "told"), OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("channel", ["stdout", "stderr"])
def test_the_last_output_of_a_program_that_does_not_start(daemon, written, told, channel):
    end = " >&2" if channel == "stderr" else ""
    command = f"/bin/bash -c 'printf \"{written}\"{end}; exit 1'"
    program = {"command": command, "startretries": 0, "autorestart": False}
    with pytest.raises(GearvisorError) as caught:
        daemon.converge({"bad": program})
    assert told in caught.value.details["output"]
    assert "not well-formed" not in str(caught.value)


def test_what_others_programs_hold_does_not_stop_the_run(daemon):
    """A command with a control character is in supervisord's own answers."""
    daemon.load("theirs.conf", "[program:theirs]\ncommand=/not/\x1b[31mthere\nstartretries=0\n")
    daemon.wait_for(lambda: daemon.states().get("theirs:theirs") == "FATAL")
    daemon.converge({"mail": {"command": "/bin/sleep 60"}})
    assert "mail_00:mail_00" in daemon.pids()


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_socket_with_a_password_is_named_at_once(idle, check_mode):
    """The password is in conf.d, where only supervisord finds it."""
    (idle.conf_d / "password.conf").write_text(
        f"[unix_http_server]\nfile={idle.directory}/s.sock\nusername=u\npassword=hunter2\n"
    )
    idle.start(ready=False)
    idle.wait_for_socket()
    with pytest.raises(GearvisorError, match="The socket requires a password") as caught:
        idle.converge({"mail": {"command": "/bin/sleep 60"}}, check_mode=check_mode)
    assert "supervisord.conf" in str(caught.value)
    assert "hunter2" not in str(caught.value)
