from __future__ import annotations

import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import rpc

pytestmark = pytest.mark.supervisords("one")

SETTINGS = {
    "none": ("", ("/run/supervisor.sock", None, "")),
    "debian": (
        "[unix_http_server]\nfile=/var/run/supervisor.sock   ; (the path to the socket file)\n",
        ("/var/run/supervisor.sock", None, ""),
    ),
    "here": ("[unix_http_server]\nfile = %(here)s/s.sock\n", ("/etc/supervisor/s.sock", None, "")),
    "password": (
        "[unix_http_server]\nfile=/s\nusername=ops\npassword=100%%\n",
        ("/s", "ops", "100%"),
    ),
}


@pytest.mark.parametrize(("text", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_socket_settings(text, expected):
    assert rpc.socket_settings(text, "/etc/supervisor") == expected


def test_no_supervisord_is_reported_with_what_to_do(tmp_path):
    started = time.monotonic()
    with pytest.raises(rpc.SupervisordUnavailable) as caught:
        rpc.Supervisord(str(tmp_path / "none.sock")).wait_ready(0.5)
    assert 0.5 <= time.monotonic() - started < 15
    assert f"does not answer on {tmp_path}/none.sock" in str(caught.value)
    assert "systemctl start supervisor" in str(caught.value)


def test_wrong_password_is_reported(idle):
    idle.config.write_text(
        idle.config.read_text().replace("chmod=0700", "username=ops\npassword=right")
    )
    idle.start(ready=False)
    socket = str(idle.directory / "s.sock")
    right = rpc.Supervisord(socket, "ops", "right")
    right.wait_ready(120)
    assert right.version().startswith("4.")
    with pytest.raises(rpc.SupervisordUnavailable, match="401 Unauthorized"):
        rpc.Supervisord(socket, "ops", "wrong").wait_ready(0)


@pytest.mark.supervisords("all")
def test_a_file_that_supervisord_cannot_read_is_refused_with_its_own_words(daemon):
    (daemon.conf_d / "x.conf").write_text("[program:x]\ncommand=/bin/true\nnumprocs=2\n")
    with pytest.raises(rpc.ConfigRefused) as caught:
        daemon.rpc.reload_config()
    assert "%(process_num) must be present within process_name" in str(caught.value)
    assert f"(file: '{daemon.conf_d}/x.conf')" in str(caught.value)


@pytest.mark.supervisords("all")
def test_one_group_from_file_to_removal(daemon):
    supervisord = daemon.rpc
    (daemon.conf_d / "x.conf").write_text("[program:x]\ncommand=/bin/sleep 60\nstartsecs=0\n")
    assert supervisord.reload_config() == rpc.Delta(frozenset("x"), frozenset(), frozenset())
    assert supervisord.processes() == []
    supervisord.add_group("x")
    daemon.wait_for(lambda: daemon.states() == {"x:x": rpc.RUNNING})
    (process,) = supervisord.processes()
    assert (process.full_name, process.reason) == ("x:x", "")
    assert process.pid > 1
    # A state that is already there is not an error.
    supervisord.add_group("x")
    supervisord.start_process("x:x")
    daemon.wait_for(daemon.all_are_programs)
    with pytest.raises(rpc.StillRunning, match="STILL_RUNNING"):
        supervisord.remove_group("x")
    supervisord.stop_group("x")
    daemon.wait_for(lambda: daemon.states() == {"x:x": rpc.STOPPED})
    supervisord.signal_process("x:x", "TERM")
    supervisord.remove_group("x")
    supervisord.remove_group("x")
    supervisord.stop_group("x")
    assert supervisord.processes() == []


@pytest.mark.supervisords("all")
def test_what_ends_before_the_answer_is_seen_in_its_state(daemon):
    """A program of a busy host can be gone by then; without a file descriptor for it it always is."""
    daemon.load("x.conf", "[program:x]\ncommand=/bin/sleep 60\nautostart=false\n")
    with daemon.without_descriptors():
        daemon.rpc.start_process("x:x")
        (process,) = daemon.rpc.processes()
        assert (process.state, process.reason) == (rpc.BACKOFF, "too many open files to spawn 'x'")
    daemon.wait_for(lambda: daemon.states() == {"x:x": rpc.RUNNING})


def test_what_supervisord_refuses_is_reported(daemon):
    with pytest.raises(GearvisorError, match=r"refuses addProcessGroup\(nobody\): BAD_NAME"):
        daemon.rpc.add_group("nobody")


@pytest.mark.parametrize(
    ("script", "redirect", "expected"),
    [
        ("echo out; echo err >&2", "false", "err"),
        ("echo out", "false", "out"),
        ("echo out; echo err >&2", "true", "out\nerr"),
        ("true", "false", ""),
    ],
    ids=["errors first", "output if no errors", "both in one", "nothing"],
)
def test_last_output(daemon, script, redirect, expected):
    daemon.load(
        "x.conf",
        f"[program:x]\ncommand=/bin/sh -c '{script}'\nstartsecs=0\nautorestart=false\n"
        f"redirect_stderr={redirect}\n",
    )
    daemon.wait_for(lambda: daemon.states() == {"x:x": rpc.EXITED})
    assert daemon.rpc.last_output("x:x") == expected


def test_last_output_is_the_end(daemon):
    daemon.load(
        "x.conf",
        "[program:x]\ncommand=/usr/bin/seq 5000\nstartsecs=0\nautorestart=false\n",
    )
    daemon.wait_for(lambda: daemon.states() == {"x:x": rpc.EXITED})
    assert daemon.rpc.last_output("x:x", 20).split()[-3:] == ["4998", "4999", "5000"]
    assert len(daemon.rpc.last_output("x:x", 20)) <= 20


def test_of_one_group(daemon):
    quiet = "startsecs=0\nautorestart=false\n"
    daemon.load(
        "x.conf",
        f"[program:x]\ncommand=/usr/bin/seq 5000\n{quiet}[program:xy]\ncommand=/bin/true\n{quiet}",
    )
    daemon.wait_for(lambda: daemon.states() == {"x:x": rpc.EXITED, "xy:xy": rpc.EXITED})
    assert [process.full_name for process in daemon.rpc.processes("x")] == ["x:x"]
    assert daemon.rpc.last_lines("x", 2) == "4999\n5000"
    assert daemon.rpc.last_lines("xy") == ""
    assert daemon.rpc.processes("nobody") == []
    assert daemon.rpc.last_lines("nobody") == ""
