"""What version 0.1.0 set up is upgraded while jobs flow: none is lost, and nothing of it is left."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
OLD = "ba70a25"  # the last commit of version 0.1.0
PYTHON = "/opt/gearvisor/venv/bin/python"


@pytest.fixture(scope="module")
def old_tree(tmp_path_factory):
    """Version 0.1.0, from this checkout's history."""
    tree = tmp_path_factory.mktemp("old")
    archive = subprocess.run(
        ["git", "-C", ROOT, "archive", OLD], check=True, stdout=subprocess.PIPE
    ).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
    return tree


def set_up(tree):
    """Run site.yml of that tree on all hosts."""
    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    done = subprocess.run(
        [
            "ansible-playbook",
            f"--inventory={scenario.parent / 'shared/inventory.yml'}",
            f"--inventory={scenario / 'inventory.yml'}",
            "site.yml",
        ],
        cwd=tree,
        env={**os.environ, "ANSIBLE_CONFIG": str(tree / "ansible.cfg")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def running(host):
    return host.run("supervisorctl status").stdout.count("RUNNING")


def test_upgrade(lab, old_tree):
    names = ("booted", "plain")
    set_up(old_tree)
    workers = [running(lab[name]) for name in names]
    loads = []
    for name in names:
        argv = ["podman", "exec", lab.container(name), PYTHON, "/srv/load.py", "/tmp/stop"]
        loads.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
    try:
        lab.play("site.yml")
    finally:
        for name in names:
            lab[name].check_output("touch /tmp/stop")
        counts = [json.loads(load.communicate(timeout=200)[0]) for load in loads]
    for name, count in zip(names, counts):
        print(name, {each: len(values) for each, values in count.items()})
        assert count["failed"] == []
        assert sorted(count["answered"]) == sorted(count["submitted"]) != []
    assert [running(lab[name]) for name in names] == workers
    recap, output = lab.play("site.yml")
    assert [recap[name]["changed"] for name in names] == [0, 0], output


@pytest.mark.parametrize("path", ["functions.php", "reports.php", "timers.php"])
def test_files_of_the_old_version_are_gone(host, path):
    assert host.file("/opt/gearvisor/php/worker.php").exists
    assert not host.file(f"/opt/gearvisor/php/{path}").exists


def test_workers_know_their_names(host):
    # Only its user may read a process's environment in a container.
    shown = host.check_output(
        "for pid in $(pgrep -u gearman-worker -f 'gearvisor[ ]worker'); do"
        " runuser -u gearman-worker -- cat /proc/$pid/environ | tr '\\0' '\\n'; done"
    )
    assert shown.count("GEARVISOR_WORKER=") == 4
