"""The commands, variables and plays on README's and docs' pages are ones that Gearvisor takes."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import options
from gearvisor import cli
from pages import PAGES, ROOT, blocks, command_lines

_COMMAND = re.compile(r"(?:sudo )?(?:\S*/)?gearvisor (?=[a-z])")
_PLAYBOOK = re.compile(r"ansible-playbook (?:-i \S+ )?(playbooks/\w+\.yml)(.*)")
_OURS = re.compile(r"(gearman|supervisor)_\w+\Z")


def _known():
    path = ROOT / "plugins/action/gearman_firewall.py"
    spec = importlib.util.spec_from_file_location("warns_of_variables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.known_variables(ROOT / "roles")


def _cases(find):
    return [
        pytest.param(*found, id=f"{path.relative_to(ROOT)}:{line}")
        for path in PAGES
        for *found, line in find(path)
    ]


def _gearvisor(path):
    for command, line in command_lines(path):
        match = _COMMAND.match(command)
        if match:
            yield command[match.end() :], line


@pytest.mark.parametrize("command", _cases(_gearvisor))
def test_gearvisor_takes_the_command(command):
    command = re.sub(r"\s[<>].*$", "", command).replace("HOST:PORT", "jobs1:4730")
    words = shlex.split(command)
    assert callable(cli._parser(words).parse_args(words).run)


def _playbooks(path):
    for command, line in command_lines(path):
        match = _PLAYBOOK.match(command)
        if match:
            yield match[1], match[2], line


@pytest.mark.parametrize(("playbook", "arguments"), _cases(_playbooks))
def test_ansible_takes_the_playbook_and_its_options(playbook, arguments):
    words = [word for word in shlex.split(arguments) if word != "HOST"]
    words = [word for word in words if word != "--limit"]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "--inventory=inventory/cluster.example",
            "--syntax-check",
            playbook,
            *words,
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def _variables(path):
    for code, line in blocks(path):
        try:
            found = yaml.safe_load(code)
        except yaml.YAMLError:
            continue
        if isinstance(found, dict) and all(
            isinstance(name, str) and _OURS.match(name) for name in found
        ):
            yield found, line


@pytest.mark.parametrize("variables", _cases(_variables))
def test_variables_exist_and_programs_are_accepted(variables):
    assert set(variables) <= _known()
    programs = variables.get("gearman_worker_programs")
    if programs:
        given = {**{name: {} for name in options.PARAMETERS.values()}, "programs": programs}
        assert len(options.typed_programs(given)) == len(programs)
