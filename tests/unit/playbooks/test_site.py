"""site.yml on inventories that it cannot use as they are, and what verify proves by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


def play(*arguments):
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def inventory(tmp_path):
    """inventory(text): a file with that text."""

    def write(text):
        path = tmp_path / "hosts.ini"
        path.write_text(text)
        return str(path)

    return write


def test_an_inventory_without_our_groups_names_them(inventory):
    code, output = play("site.yml", "-i", inventory("[workers]\nweb1\n"))
    assert code != 0
    for group in ("gearman_job_servers", "gearman_workers", "gearman_clients"):
        assert group in output
    assert "'hosts' is required" not in output


REFERENCE_PYTHON = "/opt/gearvisor/venv/bin/gearvisor worker gearvisor.reference"
REFERENCE_PHP = "/usr/bin/php /opt/gearvisor/php/worker.php"
OWN = [{"function": "send", "data": "x", "expect": "y"}]


def test_what_verify_proves_follows_the_programs(tmp_path):
    cases = {
        "both": ([REFERENCE_PYTHON, REFERENCE_PHP], [], ["reverse_python", "reverse_php"]),
        "options": ([f"{REFERENCE_PHP} --max-jobs 5"], [], ["reverse_php"]),
        "own_php": ([f"{REFERENCE_PHP} --functions /srv/f.php"], [], []),
        "own_python": (["/srv/venv/bin/gearvisor worker mail.tasks:send"], [], []),
        "named": ([REFERENCE_PYTHON], OWN, ["send"]),
        "nothing": ([], [], []),
    }
    hosts = {
        name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "gearman_worker_programs": [
                {"name": f"p{number}", "command": command}
                for number, command in enumerate(commands)
            ],
            "gearman_worker_verify_jobs": jobs,
        }
        for name, (commands, jobs, _) in cases.items()
    }
    task = {
        "ansible.builtin.copy": {
            "content": "{{ __gearman_worker_verify_jobs }}",
            "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}.json",
            "mode": "0644",
        }
    }
    values = str(ROOT / "roles/gearman_worker/vars/main/main.yml")
    plays = [{"hosts": "all", "gather_facts": False, "vars_files": [values], "tasks": [task]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    code, output = play("-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml"))
    assert code == 0, output
    found = {
        name: [job["function"] for job in json.loads((tmp_path / f"{name}.json").read_text())]
        for name in cases
    }
    assert found == {name: functions for name, (_, _, functions) in cases.items()}
