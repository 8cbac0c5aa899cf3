"""The fleet is scaled, changed, deployed and broken while jobs flow; none is lost or done twice."""

import collections
import json
import subprocess
import threading
import time

import pytest

PYTHON = "/opt/gearvisor/venv/bin/python"


class Load:
    """Jobs that flow for as long as the block runs; then every one of them is accounted for."""

    def __init__(self, lab, host):
        self.lab = lab
        self.host = host

    def __enter__(self):
        self.host.check_output("rm -rf /srv/fleet/done/* /tmp/stop")
        argv = ["podman", "exec", self.lab.container("trixie")]
        argv += [PYTHON, "/srv/fleet/load.py", "/tmp/stop"]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.lab.wait_until(lambda: self.host.run("ls /srv/fleet/done | grep -q .").rc == 0)
        return self

    def __exit__(self, kind, *_):
        self.host.check_output("touch /tmp/stop")
        output, _ = self.process.communicate(timeout=150)
        if kind is None:
            self.check(json.loads(output))

    def check(self, counts):
        done = self.host.check_output("cat /srv/fleet/done/*").split()
        runs = collections.Counter(done)
        print({name: len(values) for name, values in counts.items()}, "completed runs:", len(done))
        assert counts["failed"] == []
        assert sorted(counts["answered"]) == sorted(counts["submitted"])
        assert set(runs) == set(counts["submitted"])
        assert set(runs.values()) == {1}
        assert len(counts["submitted"]) > 50


class States(threading.Thread):
    """Watches how many processes of the program load are RUNNING."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host = host
        self.least = 1000
        self.ends = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.join()

    def run(self):
        while not self.ends.is_set():
            running = [state for name, (state, _pid) in processes(self.host, "load").items()]
            self.least = min(self.least, running.count("RUNNING"))
            time.sleep(0.1)


def processes(host, program):
    """Return {name: (state, pid)} of the program's processes."""
    lines = host.run("supervisorctl status").stdout.splitlines()
    words = [line.split() for line in lines if line.startswith(program)]
    return {
        each[0]: (each[1], each[3].rstrip(",") if each[1] == "RUNNING" else None) for each in words
    }


def converge(lab, succeeds=True, **variables):
    """Run the fleet's playbook with these variables; return (recap, output)."""
    arguments = ["--extra-vars", json.dumps(variables)]
    return lab.play("molecule/fleet/fleet.yml", *arguments, succeeds=succeeds)


@pytest.fixture(autouse=True)
def as_converged(lab, host):
    """Each test begins and ends with the fleet as the inventory has it."""
    bystanders = processes(host, "bystander")
    assert len(bystanders) == 2
    yield
    converge(lab)
    assert processes(host, "bystander") == bystanders


def test_scaling_touches_only_the_difference(lab, host):
    three = processes(host, "load")
    with Load(lab, host):
        converge(lab, fleet_processes=5)
        five = processes(host, "load")
        assert {name: five[name] for name in three} == three
        assert sorted(five) == [f"load_{number:02d}" for number in range(5)]
        converge(lab, fleet_processes=4)
        four = processes(host, "load")
        assert four == {name: five[name] for name in sorted(five)[:4]}


def test_scaling_to_nothing_and_back(lab, host):
    with Load(lab, host):
        converge(lab, fleet_processes=0)
        assert processes(host, "load") == {}
        converge(lab, fleet_processes=2)
    assert {state for state, _pid in processes(host, "load").values()} == {"RUNNING"}


def test_a_change_rolls_one_process_at_a_time(lab, host):
    before = processes(host, "load")
    with Load(lab, host), States(host) as states:
        converge(lab, fleet_release="2")
    after = processes(host, "load")
    assert states.least >= len(before) - 1
    assert {pid for _state, pid in before.values()} & {
        pid for _state, pid in after.values()
    } == set()


def test_new_code_is_deployed_by_letting_each_process_finish(lab, host):
    before = processes(host, "load")
    with Load(lab, host), States(host) as states:
        host.check_output("echo '# release two' >> /srv/fleet/tasks.py")
        converge(lab)
    after = processes(host, "load")
    assert states.least >= len(before) - 1
    assert {pid for _state, pid in before.values()} & {
        pid for _state, pid in after.values()
    } == set()


def test_a_definition_that_does_not_start_leaves_the_old_one_working(lab, host):
    with Load(lab, host), States(host) as states:
        broken = "/opt/gearvisor/venv/bin/gearvisor worker nosuchmodule:work"
        _recap, output = converge(lab, succeeds=False, fleet_command=broken)
        assert "load_00:load_00 does not start" in output
        assert "nosuchmodule" in output
        assert "The old definition is back" in output
    assert states.least >= 2
    assert {state for state, _pid in processes(host, "load").values()} == {"RUNNING"}
    assert "nosuchmodule" not in host.file("/etc/supervisor/conf.d/load.conf").content_string


def test_a_running_job_of_a_killed_worker_is_done_by_another(lab, host):
    """Its first run is cut, so it runs again; each job is still answered once."""
    load = Load(lab, host)
    load.check = lambda counts: check_answers(counts)
    with load:
        for _state, pid in processes(host, "load").values():
            host.check_output(f"kill -9 {pid}")
            time.sleep(1)


def check_answers(counts):
    assert counts["failed"] == []
    assert sorted(counts["answered"]) == sorted(counts["submitted"])
