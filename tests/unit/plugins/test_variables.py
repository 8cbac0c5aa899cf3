"""A mistyped role variable is warned of, with the name that was meant."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.gearvisor.gearvisor.plugins.action import gearman_job_server as action

ROOT = Path(__file__).resolve().parents[3]
ROLES = {path.name for path in (ROOT / "roles").iterdir()}
KNOWN = action.known_variables(ROOT / "roles")


def test_every_variable_of_every_role_is_known():
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for spec in yaml.safe_load(path.read_text())["argument_specs"].values():
            assert set(spec["options"]) <= KNOWN


def test_every_role_that_calls_a_module_has_the_action():
    for path in (ROOT / "plugins/action").iterdir():
        if path.suffix == ".py":
            assert path.resolve() == ROOT / "plugins/action/gearman_job_server.py"
            assert (ROOT / "library" / path.name).exists()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("gearman_job_server_verbose", "gearman_job_server_verbosity"),
        ("gearman_job_server_listenn", "gearman_job_server_listen"),
        ("gearman_worker_program", "gearman_worker_programs"),
        ("gearman_worker_max_unavailible", "gearman_worker_max_unavailable"),
        ("gearman_jobserver_port", "gearman_job_server_port"),
        ("gearman_server", "gearman_servers"),
        ("gearman_php_sapi", "gearman_php_sapis"),
        ("supervisor_min_fds", "supervisor_minfds"),
        ("gearman_tunnel_colour", ""),
        # What playbooks take.
        ("gearman_deploy_keeps", "gearman_deploy_keep"),
        ("gearman_move_form", "gearman_move_from"),
        ("gearman_uninstall_data", None),
        # The names of groups.
        ("gearman_job_servers", "gearman_servers"),
        ("gearman_workers", "gearman_worker_programs"),
        # Other people's.
        ("supervisor_password", None),
        ("gearman_exporter_version", None),
        ("gearman_db_password", None),
        ("gearman_servers", None),
    ],
)
def test_mistyped(name, near):
    found = action.mistyped({name}, KNOWN, ROLES)
    assert found == ({} if near is None else {name: near})


def test_the_warning_comes_with_the_run(tmp_path):
    """From a checkout, with its own ansible.cfg; the role's module fails at once, which is enough."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"gearman_firewall_network": ["192.0.2.0/24"], "gearman_firewall_ports": [0]},
        "roles": ["gearman_firewall"],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "--check", tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "400",
        },
    )
    output = " ".join((done.stdout + done.stderr).split())
    assert "gearman_firewall_network is not a variable of Gearvisor's roles" in output, output
    assert "Did you mean gearman_firewall_networks?" in output
