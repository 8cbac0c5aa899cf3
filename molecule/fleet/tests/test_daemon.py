"""supervisord under systemd: limits, reload, a stop that drains, and processes given up."""

import time

import pytest

SLEEPERS = {
    f"sleeper{number}": {
        # Takes three seconds to leave.
        "command": "/bin/sh -c 'trap \"sleep 3; exit\" TERM; while :; do sleep 0.1; done'",
        "stopwaitsecs": 20,
        "autorestart": True,
    }
    for number in range(4)
}


@pytest.fixture
def sleepers(lab):
    result = lab.module(
        "trixie", "supervisor_programs", {"programs": SLEEPERS, "fleet": "sleepers"}
    )
    assert not result["failed"], result
    yield
    lab.module(
        "trixie", "supervisor_programs", {"programs": {}, "fleet": "sleepers", "purge": True}
    )


def pids(host):
    lines = [line.split() for line in host.run("supervisorctl status").stdout.splitlines()]
    return {words[0]: words[3] for words in lines if words[1] == "RUNNING"}


def test_file_limit_is_in_force_without_a_restart(lab, host):
    pid = host.check_output("supervisorctl pid")
    result = lab.module("trixie", "supervisor_daemon", {"minfds": 9000})
    assert result["changed"]
    assert host.check_output("supervisorctl pid") == pid
    assert (
        host.check_output(f"prlimit --nofile --output=SOFT --noheadings --pid {pid}").strip()
        == "9000"
    )


def test_web_interface_waits_for_a_restart_and_says_so(lab, host):
    before = pids(host)
    web = {"username": "admin", "password": "correct horse"}
    result = lab.module("trixie", "supervisor_daemon", {"web": web})
    assert result["restart_pending"]
    assert pids(host) == before
    assert "correct horse" not in str(result)
    host.check_output("systemctl restart supervisor")
    lab.wait_until(lambda: len(pids(host)) == len(before))
    ask = "curl -s -o /dev/null -w '%%{http_code}' %s http://127.0.0.1:9001/"
    host.check_output("which curl || (apt-get -qq update && apt-get -qq -y install curl)")
    assert host.check_output(ask, "-g") == "401"
    assert (
        host.check_output(
            "curl -s -u 'admin:correct horse' http://127.0.0.1:9001/ | grep -c load_00"
        )
        != "0"
    )
    listening = host.check_output("ss -Hltn sport = :9001").split()
    assert listening[3] == "127.0.0.1:9001"
    lab.module("trixie", "supervisor_daemon", {})
    host.check_output("systemctl restart supervisor")
    lab.wait_until(lambda: len(pids(host)) == len(before))


def test_systemctl_reload_restarts_nothing_that_did_not_change(host):
    before = pids(host)
    host.check_output("systemctl reload supervisor")
    assert pids(host) == before


def test_a_stop_drains_all_at_once_and_leaves_none_behind(lab, host, sleepers):
    """Four groups that take three seconds each; one after another they would take twelve."""
    running = pids(host)
    started = time.monotonic()
    host.check_output("systemctl stop supervisor")
    seconds = time.monotonic() - started
    left = [pid for pid in running.values() if host.run(f"kill -0 {pid.rstrip(',')}").rc == 0]
    host.check_output("systemctl start supervisor")
    lab.wait_until(lambda: len(pids(host)) == len(running))
    assert left == []
    assert seconds < 10


def test_a_killed_supervisord_is_back_at_once_and_no_job_is_cut(lab, host, sleepers):
    """Its workers finish what they do, and none of them serves beside the new set."""
    running = pids(host)
    host.check_output("kill -9 $(supervisorctl pid)")
    started = time.monotonic()
    lab.wait_until(lambda: len(pids(host)) == len(running))
    seconds = time.monotonic() - started
    assert not set(running.values()) & set(pids(host).values())
    left = [pid for pid in running.values() if host.run(f"kill -0 {pid.rstrip(',')}").rc == 0]
    assert left == []
    assert seconds < 25
    log = host.check_output("journalctl -u supervisor --since -2min --no-pager")
    assert "A former supervisord has left these, which are asked to leave" in log
    assert "sleeper0_00" in log


def test_no_worker_has_supervisords_score_for_the_memory_killer(lab, host):
    score = host.check_output("cat /proc/$(supervisorctl pid)/oom_score_adj")
    if score == "0":
        pytest.skip("this host does not let a container better its score")
    workers = [pid.rstrip(",") for pid in pids(host).values()]
    lab.wait_until(
        lambda: {host.check_output(f"cat /proc/{pid}/oom_score_adj") for pid in workers} == {"0"}
    )


def test_a_process_given_up_is_started_again(lab, host):
    result = lab.module("trixie", "supervisor_daemon", {"retry_fatal": 2})
    assert not result["failed"], result
    program = {
        "command": "/bin/sh -c 'test -e /tmp/there && exec sleep 1000'",
        "startretries": 0,
        "autorestart": True,
    }
    request = {"programs": {"needy": program}, "fleet": "needy"}
    lab.module("trixie", "supervisor_programs", {**request, "wait": False})
    lab.wait_until(lambda: "FATAL" in host.run("supervisorctl status needy_00:*").stdout)
    host.check_output("touch /tmp/there")
    lab.wait_until(lambda: "RUNNING" in host.run("supervisorctl status needy_00:*").stdout)
    lab.module("trixie", "supervisor_programs", {**request, "programs": {}, "purge": True})
    lab.module("trixie", "supervisor_daemon", {})


def test_socket_and_logs_are_roots(host):
    socket = host.file("/var/run/supervisor.sock")
    assert (socket.mode, socket.user) == (0o700, "root")
    for directory in ("/var/log/supervisor", "/var/log/gearman-worker"):
        file = host.file(directory)
        assert (file.user, file.group, file.mode & 0o022) == ("root", "root", 0)
