"""Every module's documentation matches its arguments."""

from __future__ import annotations

import importlib
import pathlib

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

LIBRARY = pathlib.Path(__file__).parents[3] / "library"
MODULES = sorted(path.stem for path in LIBRARY.glob("*.py"))


def described(options):
    """Documented options in the terms of an argument spec."""
    result = {}
    for name, option in (options or {}).items():
        spec = {key: option[key] for key in ("default", "choices", "elements") if key in option}
        spec["type"] = option.get("type", "str")
        spec["required"] = option.get("required", False)
        spec["aliases"] = option.get("aliases", [])
        if "suboptions" in option:
            spec["options"] = described(option["suboptions"])
        result[name] = spec
    return result


def declared(arguments):
    """An argument spec, with what it leaves to Ansible's defaults filled in."""
    result = {}
    for name, argument in arguments.items():
        spec = {key: argument[key] for key in ("default", "choices", "elements") if key in argument}
        spec["type"] = argument.get("type", "str")
        spec["required"] = argument.get("required", False)
        spec["aliases"] = argument.get("aliases", [])
        if "options" in argument:
            spec["options"] = declared(argument["options"])
        result[name] = spec
    return result


@pytest.fixture(params=MODULES)
def module(request):
    name = "ansible_collections.gearvisor.gearvisor.plugins.modules." + request.param
    return importlib.import_module(name)


def test_there_are_modules():
    assert "supervisor_programs" in MODULES


def test_documented_options_are_the_arguments(module):
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert described(documentation["options"]) == declared(module.ARGUMENTS)


def test_documentation_is_whole(module):
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == module.__name__.rpartition(".")[2]
    attributes = documentation["attributes"]
    assert {"check_mode", "diff_mode"} <= set(attributes)
    for attribute in attributes.values():
        assert attribute["support"] in ("full", "partial", "none", "N/A")
        assert attribute["description"]
        # An unquoted comma in {support: full, description: This, and that} starts another key.
        assert set(attribute) <= {"support", "description", "details", "platforms"}


def test_examples_use_arguments_that_exist(module):
    name = module.__name__.rpartition(".")[2]
    tasks = [task for task in yaml.safe_load(module.EXAMPLES) if name in task]
    assert tasks
    for task in tasks:
        assert task["name"]
        assert set(task[name] or {}) <= set(module.ARGUMENTS)


def test_returns_are_described(module):
    for name, value in yaml.safe_load(module.RETURN).items():
        assert value["description"], name
        assert value["type"], name
        assert value["returned"], name


def test_main_uses_the_arguments(module, monkeypatch):
    """main() declares exactly ARGUMENTS to Ansible."""
    seen = []

    class Stop(Exception):
        pass

    def record(_self, *_arguments, **options):
        seen.append(options)
        raise Stop

    monkeypatch.setattr(AnsibleModule, "__init__", record)
    with pytest.raises(Stop):
        module.main()
    assert seen[0]["argument_spec"] is module.ARGUMENTS
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert seen[0].get("supports_check_mode", False) == (
        documentation["attributes"]["check_mode"]["support"] != "none"
    )


def test_the_action_group_has_all_modules():
    runtime = yaml.safe_load((LIBRARY.parent / "meta/runtime.yml").read_text())
    assert runtime["action_groups"]["gearvisor"] == sorted(
        path.stem for path in LIBRARY.glob("*.py")
    )
