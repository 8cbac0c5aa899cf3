# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's argument_specs.yml matches its defaults."""

import pathlib

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.options import (
    OPTIONS,
    OURS,
)

ROLES = sorted(
    path for path in (pathlib.Path(__file__).parents[3] / "roles").iterdir() if path.is_dir()
)


def options_of(role):
    """Return [(name, option)] of all entry points; a variable of several is there several times."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
    entries = specs["argument_specs"].values()
    return [item for entry in entries for item in entry["options"].items()]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_those_of_each_entry_point(role):
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    given = [(name, option.get("default")) for name, option in options_of(role)]
    assert [(name, value) for name, value in given if defaults[name] != value] == []
    assert set(defaults) == {name for name, _value in given}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_public_variables_have_the_roles_prefix(role):
    prefix = {"supervisor": "supervisor_", "gearman_common": "gearman_"}.get(
        role.name, f"{role.name}_"
    )
    assert [name for name, _option in options_of(role) if not name.startswith(prefix)] == []


def test_worker_programs_take_every_option_of_supervisor():
    (worker,) = [role for role in ROLES if role.name == "gearman_worker"]
    programs = dict(options_of(worker))["gearman_worker_programs"]["options"]
    assert set(programs) == {"name", *OPTIONS["program"], *OURS}


def test_a_wrong_name_in_a_program_reaches_the_module_which_names_the_right_one():
    (worker,) = [role for role in ROLES if role.name == "gearman_worker"]
    specs = yaml.safe_load((worker / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    given = {"gearman_worker_programs": [{"name": "mail", "cmd": "/bin/true", "count": 3}]}
    assert ArgumentSpecValidator(options).validate(given).error_messages == []
