# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles make of an inventory of several hosts, by Ansible itself.

Nothing is asked of the hosts: they do not exist.
"""

import copy
import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[3]
INVENTORY = {
    "all": {
        "vars": {"gearman_tunnel_state": "present", "ansible_connection": "local"},
        "children": {
            "gearman_job_servers": {
                "hosts": {
                    "job1": {"ansible_host": "192.0.2.11"},
                    "job2": {
                        "ansible_host": "job2.example.org",
                        "gearman_job_server_address": "198.51.100.12",
                        "gearman_tunnel_name": "two.example.org",
                        "gearman_tunnel_port": 5731,
                    },
                }
            },
            "gearman_workers": {
                "hosts": {
                    "worker1": {"ansible_host": "192.0.2.21"},
                    "worker2.example.org": {"gearman_firewall_addresses": ["2001:db8::22"]},
                    "job2": {},
                }
            },
            "gearman_clients": {"hosts": {"web": {"ansible_host": "192.0.2.31"}}},
        },
    }
}
VALUES = {
    "gearman_firewall": {
        "hosts": "{{ __gearman_firewall_hosts }}",
        "ports": "{{ __gearman_firewall_ports }}",
    },
    "gearman_tunnel": {
        "serve": "{{ __gearman_tunnel_serve }}",
        "servers": "{{ __gearman_tunnel_servers }}",
        "certificates": "{{ __gearman_tunnel_certificates }}",
    },
    "gearman_worker": {"servers": "{{ gearman_worker_servers }}"},
}


def evaluate(directory, inventory, *arguments):
    """Return {host: {role: values}} as the roles have them; each role's tasks are replaced."""
    for role, values in VALUES.items():
        tasks = directory / "roles" / role / "tasks"
        tasks.mkdir(parents=True)
        for part in ("defaults", "vars"):
            (tasks.parent / part).symlink_to(ROOT / "roles" / role / part)
        write = {
            "content": values,
            "dest": f"{directory}/{{{{ inventory_hostname }}}}={role}",
            "mode": "0644",
        }
        (tasks / "main.yml").write_text(yaml.safe_dump([{"ansible.builtin.copy": write}]))
    plays = [{"hosts": "all", "gather_facts": False, "roles": [role]} for role in VALUES]
    (directory / "play.yml").write_text(yaml.safe_dump(plays))
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    ansible = pathlib.Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [ansible, f"--inventory={directory}/hosts.yml", *arguments, directory / "play.yml"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_ROLES_PATH": str(directory / "roles"),
            "LC_ALL": "C.UTF-8",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = {}
    for path in directory.glob("*=*"):
        host, role = path.name.split("=")
        result.setdefault(host, {})[role] = json.loads(path.read_text())
    return result


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return evaluate(tmp_path_factory.mktemp("whole"), INVENTORY)


def test_limit_changes_nothing_for_the_host_that_is_left(whole, tmp_path):
    limited = evaluate(tmp_path, INVENTORY, "--limit=job1")
    assert limited == {"job1": whole["job1"]}


def test_every_host_of_the_cluster_may_come_in(whole):
    assert whole["job1"]["gearman_firewall"] == {
        "hosts": {
            "job1": ["192.0.2.11"],
            "job2": ["198.51.100.12"],
            "web": ["192.0.2.31"],
            "worker1": ["192.0.2.21"],
            "worker2.example.org": ["2001:db8::22"],
        },
        "ports": [4730, 4731],
    }
    assert whole["job2"]["gearman_firewall"]["ports"] == [4730, 5731]


def test_a_job_server_serves_where_others_reach_it(whole):
    clients = ["job1", "two.example.org", "web", "worker1", "worker2.example.org"]
    assert whole["job1"]["gearman_tunnel"]["serve"] == {
        "listen": "192.0.2.11",
        "port": 4731,
        "job_server": "127.0.0.1:4730",
        "name": "job1",
        "clients": clients,
    }
    assert whole["job2"]["gearman_tunnel"]["serve"] == {
        "listen": "198.51.100.12",
        "port": 5731,
        "job_server": "127.0.0.1:4730",
        "name": "two.example.org",
        "clients": clients,
    }


FIRST = {"name": "job1", "address": "192.0.2.11", "port": 4731, "local_port": 4740}
SECOND = {"name": "two.example.org", "address": "198.51.100.12", "port": 5731, "local_port": 4741}


@pytest.mark.parametrize(
    ("host", "servers", "addresses"),
    [
        ("job1", [SECOND], ["127.0.0.1:4730", "127.0.0.1:4741"]),
        ("job2", [FIRST], ["127.0.0.1:4740", "127.0.0.1:4730"]),
        ("worker1", [FIRST, SECOND], ["127.0.0.1:4740", "127.0.0.1:4741"]),
        ("web", [FIRST, SECOND], ["127.0.0.1:4740", "127.0.0.1:4741"]),
    ],
)
def test_workers_use_the_tunnels_ports(whole, host, servers, addresses):
    assert whole[host]["gearman_tunnel"]["servers"] == servers
    assert whole[host]["gearman_worker"]["servers"] == addresses


def test_certificates_bear_the_names_that_are_looked_for(whole):
    assert whole["worker1"]["gearman_tunnel"]["certificates"] == {
        "job1": {"names": ["job1", "192.0.2.11"], "server": True},
        "job2": {"names": ["two.example.org", "198.51.100.12"], "server": True},
        "web": {"names": ["web", "192.0.2.31"], "server": False},
        "worker1": {"names": ["worker1", "192.0.2.21"], "server": False},
        "worker2.example.org": {"names": ["worker2.example.org"], "server": False},
    }


def test_other_choices(tmp_path):
    inventory = copy.deepcopy(INVENTORY)
    inventory["all"]["vars"].update(gearman_tunnel_clients=["shop"], gearman_tunnel_first_port=5000)
    groups = inventory["all"]["children"]
    groups["gearman_job_servers"]["hosts"]["job1"]["gearman_job_server_listen"] = "::"
    groups["gearman_workers"]["hosts"]["worker1"]["gearman_tunnel_state"] = "absent"
    found = evaluate(tmp_path, inventory)
    tunnel = found["job1"]["gearman_tunnel"]
    assert tunnel["certificates"]["shop"] == {"names": ["shop"], "server": False}
    assert "shop" in tunnel["serve"]["clients"]
    assert tunnel["serve"]["job_server"] == "[::1]:4730"
    assert found["web"]["gearman_worker"]["servers"] == ["127.0.0.1:5000", "127.0.0.1:5001"]
    # Without a tunnel, straight to where the job servers listen.
    assert found["worker1"]["gearman_worker"]["servers"] == [
        "192.0.2.11:4730",
        "198.51.100.12:4730",
    ]
