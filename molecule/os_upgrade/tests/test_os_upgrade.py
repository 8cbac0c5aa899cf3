"""A host is upgraded from Debian 12 to 13 while jobs flow: none is lost or fails, and it serves again."""

import json
import subprocess

PYTHON = "/opt/gearvisor/venv/bin/python"


def release(host):
    return host.check_output("cat /etc/debian_version").partition(".")[0]


def running(host):
    return host.run("supervisorctl status").stdout.count("RUNNING")


def served_by_it(lab):
    """How many workers of the upgraded host the job server knows."""
    script = "from gearvisor.admin import Admin; print(*(w.client_id for w in Admin('127.0.0.1').workers()))"
    shown = lab["stays"].check_output(f'{PYTHON} -c "{script}"')
    return sum(client.startswith("upgraded/") for client in shown.split())


def test_no_job_is_lost_and_the_host_serves_again(lab):
    host, stays = lab["upgraded"], lab["stays"]
    assert release(host) == "12"
    workers, known = running(host), served_by_it(lab)
    assert known > 0
    argv = ["podman", "exec", lab.container("stays"), PYTHON, "/srv/load.py", "/tmp/stop"]
    load = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        lab.play("playbooks/os_upgrade.yml", "--limit", "upgraded")
        # A reboot, and what a play that was cut off there would be followed by.
        lab.restart("upgraded")
        recap, output = lab.play("playbooks/os_upgrade.yml", "--limit", "upgraded")
    finally:
        stays.check_output("touch /tmp/stop")
        counts = json.loads(load.communicate(timeout=200)[0])
    print({name: len(values) for name, values in counts.items()})
    assert release(host) == "13"
    assert counts["failed"] == []
    assert sorted(counts["answered"]) == sorted(counts["submitted"]) != []
    assert recap["upgraded"]["changed"] == 0, output
    assert running(host) == workers
    assert served_by_it(lab) == known
    assert host.check_output(f"{PYTHON} --version").startswith("Python 3.13")
    assert "gearman" in host.check_output("php -m")
