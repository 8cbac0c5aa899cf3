"""Code blocks of README and docs are valid: YAML, JSON, INI, shell and Python that parse."""

import ast
import configparser
import json
import re
import subprocess

import pytest
import yaml
from pages import PAGES, ROOT, fenced

BLOCKS = [
    pytest.param(language, text, id=f"{path.relative_to(ROOT)}:{line}")
    for path in PAGES
    for language, text, line in fenced(path)
]


def parse_shell(text):
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PARSERS = {
    "yaml": lambda text: list(yaml.safe_load_all(text)),
    "json": json.loads,
    "ini": lambda text: configparser.RawConfigParser(strict=False).read_string(text),
    "python": ast.parse,
    "sh": parse_shell,
}


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_it_parses(language, text):
    if language in PARSERS:
        PARSERS[language](text)


def test_the_readmes_playbook_is_the_examples():
    """molecule/example runs that one, on a fresh host."""
    assert (ROOT / "examples/project/playbook.yml").read_text() in (ROOT / "README.md").read_text()


def test_commands_of_playbooks_and_run_exist():
    for path in PAGES:
        text = path.read_text()
        for name in re.findall(r"playbooks/(\w+)\.yml", text):
            assert (ROOT / f"playbooks/{name}.yml").exists(), f"{path}: {name}"
    usage = subprocess.run(
        [ROOT / "run", "help"], capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"^  ([a-z]+) ", usage, re.M))
    for path in PAGES:
        for name in re.findall(r"\./run ([a-z]+)", path.read_text()):
            assert name in known, f"{path}: ./run {name}"
