"""The public interface is still there: additions are allowed, removals and renames are not.

interfaces/face.json is the interface that users rely on; interfaces/face.py defines what belongs to it. An
option that was renamed counts as kept while its old name is an alias.
"""

import functools
import importlib
import inspect
import json
from pathlib import Path

import pytest
from interfaces import face

ROOT = Path(__file__).resolve().parents[2]
KEPT = json.loads((ROOT / "tests/unit/interfaces/face.json").read_text())
# Whose classes' members and functions' parameters people use, too; of the others only the names.
PYTHON_API = {
    f"gearvisor.{name}" for name in ("admin", "aio", "client", "errors", "jobs", "worker")
}


def missing_options(kept, now, where=""):
    """Return what a caller of the options in *kept* misses in *now*, as sentences."""
    names = {alias: name for name, option in now.items() for alias in option.get("aliases", [])}
    problems = []
    for name, option in kept.items():
        new = now.get(name) or now.get(names.get(name, ""))
        place = f"{where}{name}"
        if new is None:
            problems.append(f"{place} is gone")
            continue
        for key in ("type", "elements"):
            # raw takes every value that another type takes.
            if key in option and new.get(key) not in (option[key], "raw"):
                problems.append(f"{place}: {key} was {option[key]}, is {new.get(key)}")
        if new.get("required") and not option.get("required"):
            problems.append(f"{place} is required now")
        gone = set(option.get("choices", [])) - set(new.get("choices", option.get("choices", [])))
        if gone:
            problems.append(f"{place}: the choices {sorted(gone)} are gone")
        if not same_default(option.get("default"), new.get("default")):
            problems.append(
                f"{place}: default was {option.get('default')}, is {new.get('default')}"
            )
        problems += missing_options(option.get("options", {}), new.get("options", {}), f"{place}.")
    for name in now.keys() - kept.keys():
        if now[name].get("required"):
            problems.append(f"{where}{name} is new and required")
    return problems


def same_default(old, new):
    if isinstance(old, str) and "{{" in old:
        return True  # how it is derived may change
    if isinstance(old, dict) and isinstance(new, dict):
        return old.items() <= new.items()
    return old == new or (not old and not new and old is not False and new is not False)


def missing_results(kept, now, where=""):
    problems = []
    for name, entry in kept.items():
        if name not in now:
            problems.append(f"{where}{name} is gone")
            continue
        if now[name].get("type") != entry["type"]:
            problems.append(f"{where}{name}: type was {entry['type']}, is {now[name].get('type')}")
        problems += missing_results(
            entry.get("contains", {}), now[name].get("contains", {}), f"{where}{name}."
        )
    return problems


@functools.cache
def modules():
    return face.modules(ROOT)


@functools.cache
def roles():
    return face.roles(ROOT)


@pytest.mark.parametrize("module", KEPT["modules"])
def test_module(module):
    assert module in modules()
    kept, now = KEPT["modules"][module], modules()[module]
    assert missing_options(kept["options"], now["options"]) == []
    assert missing_results(kept["results"], now["results"]) == []


@pytest.mark.parametrize("role", KEPT["roles"])
def test_role(role):
    for entry, kept in KEPT["roles"][role].items():
        assert missing_options(kept, roles()[role][entry]) == []


@pytest.mark.parametrize("module", KEPT["python"])
def test_python_names(module):
    found = importlib.import_module(module)
    problems = []
    for name, entry in KEPT["python"][module].items():
        if not hasattr(found, name):
            problems.append(f"{name} is gone")
        elif module in PYTHON_API:
            problems += missing_members(name, entry, getattr(found, name))
    assert problems == []


def missing_members(name, entry, now):
    problems = []
    for member, inner in entry.get("members", {}).items():
        fields = getattr(now, "__annotations__", {})
        if not hasattr(now, member) and member not in fields:
            problems.append(f"{name}.{member} is gone")
        elif "parameters" in inner:
            problems += missing_members(f"{name}.{member}", inner, getattr(now, member))
    if "parameters" in entry and callable(now):
        known = inspect.signature(now).parameters
        problems += [
            f"{name}: parameter {each} is gone"
            for each in entry["parameters"]
            if each not in known and each != "cls"
        ]
    return problems


@functools.cache
def commands():
    return face.commands(ROOT)


@pytest.mark.parametrize("command", KEPT["commands"])
def test_command(command):
    kept, now = KEPT["commands"][command], commands()[command]
    assert set(kept["options"]) <= set(now["options"])
    assert set(kept["exit_codes"]) <= set(now["exit_codes"])


def test_fields_of_status_files_and_logs():
    now = face.fields(ROOT)
    missing = {
        (language, kind): sorted(set(names) - set(now[language][kind]))
        for language, kinds in KEPT["fields"].items()
        for kind, names in kinds.items()
    }
    assert {place: names for place, names in missing.items() if names} == {}


@pytest.mark.parametrize("part", ["paths", "variables", "run"])
def test_names(part):
    read = {"paths": face.paths, "variables": face.variables, "run": face.run_commands}
    assert set(KEPT[part]) <= set(read[part](ROOT))


def test_three_lines_of_ansible_cfg():
    assert face.ansible_settings(ROOT) == KEPT["ansible.cfg"]


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        ({"a": {"type": "str"}}, None),
        ({"b": {"type": "str", "aliases": ["a"]}}, None),
        ({"a": {"type": "str"}, "c": {"type": "int"}}, None),
        ({"b": {"type": "str"}}, "a is gone"),
        ({"a": {"type": "int"}}, "a: type was str, is int"),
        ({"a": {"type": "str", "default": "x"}}, "a: default was None, is x"),
        ({"a": {"type": "str", "required": True}}, "a is required now"),
        ({"a": {"type": "str"}, "c": {"type": "int", "required": True}}, "c is new and required"),
    ],
)
def test_what_counts_as_kept(now, problem):
    assert missing_options({"a": {"type": "str"}}, now) == ([problem] if problem else [])
