"""What a restart costs while jobs flow, and what it is refused for."""

import json
import subprocess

import pytest

pytestmark = pytest.mark.on("trixie")
UNIT = "gearman-job-server"


@pytest.fixture(scope="module", autouse=True)
def in_memory(lab):
    result = converge(lab, restart="force")
    assert not result["failed"], result


@pytest.fixture(autouse=True)
def nothing_queued(host):
    host.check_output(f"systemctl restart {UNIT}")
    host.check_output(
        "cd /srv/queues && timeout 20 sh -c 'until python3 load.py submit 0; do :; done'"
    )


def converge(lab, **arguments):
    return lab.module("trixie", "gearman_job_server", arguments)


def submit(host, number):
    host.check_output("cd /srv/queues && python3 load.py submit %s", str(number))


def pid(host):
    return host.check_output("systemctl show --property MainPID --value gearman-job-server")


class Flow:
    """Foreground and background jobs over kept connections for as long as the block runs."""

    def __init__(self, lab, host):
        self.lab, self.host = lab, host

    def __enter__(self):
        self.host.check_output("rm -f /tmp/stop")
        command = "cd /srv/queues && exec python3 load.py flow /tmp/stop"
        argv = ["podman", "exec", self.lab.container("trixie"), "sh", "-c", command]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.lab.wait_until(lambda: "flow2" in self.status())
        return self

    def __exit__(self, *_):
        self.host.check_output("touch /tmp/stop")
        output, _ = self.process.communicate(timeout=60)
        self.counts = json.loads(output)
        print(self.counts)

    def status(self):
        program = "from gearvisor.admin import Admin; print(*Admin('127.0.0.1:4730').status())"
        return self.host.run("cd /srv/queues && python3 -c %s", program).stdout.split()


def test_a_restart_that_would_lose_jobs_is_refused(lab, host):
    submit(host, 7)
    before = pid(host)
    result = converge(lab, threads=5)
    assert result["failed"]
    assert "would lose 7 jobs: load-test (7 queued, 0 running)" in result["msg"]
    assert result["lost"] == {"load-test": {"queued": 7, "running": 0}}
    assert pid(host) == before
    forced = converge(lab, threads=5, restart="force")
    assert forced["lost"] == {"load-test": {"queued": 7, "running": 0}}
    assert pid(host) != before


def test_a_drain_under_load_loses_nothing(lab, host):
    before = pid(host)
    with Flow(lab, host) as flow:
        result = converge(lab, threads=6, restart="drain", drain_timeout=60)
    assert not result["failed"], result
    assert pid(host) != before
    assert flow.counts["lost"] == []
    assert flow.counts["unanswered"] == 0
    assert flow.counts["repeated"] == 0
    assert flow.counts["accepted"] > 100
    # It was closed for a while, which the clients were notified of.
    assert flow.counts["refused"] > 0


def test_a_drain_that_takes_too_long_gives_up_and_goes_on(lab, host):
    submit(host, 3)
    before = pid(host)
    with Flow(lab, host) as flow:
        result = converge(lab, threads=7, restart="drain", drain_timeout=2)
    assert result["failed"]
    assert result["left"]["load-test"] == {"queued": 3, "running": 0}
    assert "takes new jobs again" in result["msg"]
    assert pid(host) == before
    assert flow.counts["lost"] == []
    assert flow.counts["cut"] == 0
    submit(host, 3)


def test_what_needs_no_restart_causes_none(lab, host):
    converge(lab, threads=4)
    submit(host, 1)
    before = pid(host)
    limited = converge(lab, memory_max="1G", drain_timeout=7, version="1.1.21*")
    assert limited["changed"]
    assert not limited["restarted"]
    assert memory_max(host) == str(2**30)
    assert converge(lab, state="present")["changed"]
    assert memory_max(host) == "infinity"
    assert pid(host) == before


def memory_max(host):
    return host.check_output(f"systemctl show --property MemoryMax --value {UNIT}")


def test_a_limit_holds_after_a_crash(lab, host):
    arguments = {"name": "load-test", "max_queue": 3}
    assert lab.module("trixie", "gearman_function", arguments)["changed"]
    old = pid(host)
    host.check_output(f"kill -9 {old}")
    lab.wait_until(lambda: pid(host) not in (old, "0") and host.service(UNIT).is_running)
    result = json.loads(host.run("cd /srv/queues && python3 load.py submit 4").stdout)
    assert "full" in result["refused"]
    gone = {"name": "load-test", "state": "absent", "cancel": True}
    assert lab.module("trixie", "gearman_function", gone)["cancelled"] == 3


def another_version(host):
    """What dpkg does to a program that runs; Debian has one version of gearmand at a time."""
    gearmand = "/usr/sbin/gearmand"
    host.check_output(f"cp -p {gearmand} {gearmand}.new && mv {gearmand}.new {gearmand}")


@pytest.mark.parametrize("playbook", ["drain", "upgrade"])
def test_the_playbooks_run_under_load(lab, host, playbook):
    before = pid(host)
    another_version(host)
    variables = {
        "gearman_job_server_queue": {"type": "builtin"},
        "gearman_job_server_prepare_database": False,
    }
    with Flow(lab, host) as flow:
        arguments = ["--limit", "trixie", "--extra-vars", json.dumps(variables)]
        lab.play(f"playbooks/{playbook}.yml", *arguments)
    assert pid(host) != before
    assert flow.counts["accepted"] > 100
    assert flow.counts["lost"] == []
    assert flow.counts["unanswered"] == 0


def test_exposure(host):
    """docs/queues.md has the figures; Debian's own unit has 9.2."""
    told = host.check_output(f"systemd-analyze security {UNIT} --no-pager").splitlines()[-1]
    assert float(told.split(": ")[1].split()[0]) <= 1.5
