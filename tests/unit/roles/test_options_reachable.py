"""Every option of a module can be set through its role."""

import importlib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
MODULES = (
    "gearman_job_server",
    "gearman_php_extension",
    "gearman_python_binding",
    "gearman_tunnel",
    "gearman_firewall",
    "gearman_authority",
    "gearman_queue_database",
    "supervisor_daemon",
    "supervisor_programs",
)


def given(module):
    """Return the options that some task of a role hands to the module."""
    found = set()
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        for task in every_task(yaml.safe_load(path.read_text()) or []):
            found |= set(task.get(module) or {})
    return found


def every_task(tasks):
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from every_task(task.get(part, []))


@pytest.mark.parametrize("module", MODULES)
def test_every_option_is_reachable(module):
    code = importlib.import_module(
        f"ansible_collections.gearvisor.gearvisor.plugins.modules.{module}"
    )
    missing = set(code.ARGUMENTS) - given(module)
    assert missing == set()
