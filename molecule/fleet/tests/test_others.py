"""What belongs to others, and a supervisord that is away or in the middle of something."""

import json
import subprocess
import time

import pytest

CONF = "/etc/supervisor/conf.d"
PROGRAMS = {"ours": {"command": "/bin/sleep 100000", "numprocs": 2, "autorestart": True}}


def states(host, pattern):
    lines = host.run("supervisorctl status").stdout.splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if line.startswith(pattern)}


def call(lab, programs, **options):
    arguments = {"programs": programs, "fleet": "ours", **options}
    return lab.module("trixie", "supervisor_programs", arguments)


@pytest.fixture(autouse=True)
def fleet(lab, host):
    assert not call(lab, PROGRAMS)["failed"]
    yield
    assert not call(lab, {}, purge=True)["failed"]
    assert states(host, "ours") == {}


@pytest.fixture
def theirs(host):
    """A program that Gearvisor does not manage, loaded, with an edit that is not."""
    path = f"{CONF}/theirs.conf"
    host.check_output(f"printf '[program:theirs]\ncommand=/bin/sleep 5000\n' > {path}")
    host.check_output("supervisorctl update")
    host.check_output(f"sed -i s/5000/6000/ {path}")
    yield path
    host.check_output(f"rm {path}; supervisorctl update")


def test_pending_edits_of_others_stay_pending_and_are_reported(lab, host, theirs):
    result = call(lab, {"ours": {**PROGRAMS["ours"], "numprocs": 3}})
    assert result["plan"]["added"] == ["ours_02"]
    assert "theirs" in result["warnings"]
    # In brackets, so that pgrep does not find the shell that it is called by.
    assert host.run("pgrep -f 'sleep [5]000'").rc == 0
    assert host.run("pgrep -f 'sleep [6]000'").rc == 1


def test_a_broken_file_of_others_is_named_and_nothing_written(lab, host, theirs):
    host.check_output(f"echo 'user=nosuchuser' >> {theirs}")
    before = host.check_output(f"sha256sum {CONF}/ours.conf")
    result = call(lab, {"ours": {**PROGRAMS["ours"], "numprocs": 3}})
    host.check_output(f"sed -i /nosuchuser/d {theirs}")
    assert result["failed"]
    assert theirs in result["msg"]
    assert host.check_output(f"sha256sum {CONF}/ours.conf") == before
    assert sorted(states(host, "ours")) == ["ours_00", "ours_01"]


def test_a_supervisord_that_is_down_is_a_clear_error(lab, host):
    host.check_output("systemctl stop supervisor")
    result = call(lab, PROGRAMS)
    host.check_output("systemctl start supervisor")
    assert result["failed"]
    for word in ("supervisord does not answer", "systemctl start supervisor"):
        assert word in result["msg"]
    lab.wait_until(lambda: set(states(host, "ours").values()) == {"RUNNING"})


def test_a_supervisord_that_restarts_is_waited_for(lab, host):
    restart = ["podman", "exec", lab.container("trixie"), "supervisorctl", "reload"]
    subprocess.run(restart, check=True, capture_output=True)
    assert not call(lab, {"ours": {**PROGRAMS["ours"], "numprocs": 3}})["failed"]
    lab.wait_until(lambda: list(states(host, "ours").values()) == ["RUNNING"] * 3)


def test_a_group_left_stopping_by_an_interrupted_run_is_picked_up(lab, host):
    slow = {
        "ours": {
            **PROGRAMS["ours"],
            "command": "/bin/sh -c 'trap \"sleep 6; exit\" TERM; while :; do sleep 0.1; done'",
            "stopwaitsecs": 20,
            "numprocs": 1,
        }
    }
    assert not call(lab, slow)["failed"]
    # What an update that was cut off leaves behind.
    stop = "import xmlrpc.client as x; from supervisor.xmlrpc import SupervisorTransport as T; "
    stop += "x.ServerProxy('http://l', T(None, None, 'unix:///var/run/supervisor.sock'))"
    stop += ".supervisor.stopProcessGroup('ours_00', False)"
    host.check_output("python3 -c %s", stop)
    assert states(host, "ours") == {"ours_00": "STOPPING"}
    started = time.monotonic()
    result = call(lab, slow)
    assert not result["failed"], json.dumps(result)
    assert time.monotonic() - started < 20
    assert states(host, "ours") == {"ours_00": "RUNNING"}
