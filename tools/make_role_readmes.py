# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes roles/*/README.md from meta/argument_specs.yml; the section Example is kept by hand."""

from __future__ import annotations

import json
import pathlib
import re

import yaml

ROLES = pathlib.Path(__file__).resolve().parents[1] / "roles"
NOTE = "<!-- Made by ./run docs from meta/argument_specs.yml; only Example is written by hand. -->"
HEADER = ["| name | type | default | meaning |", "| --- | --- | --- | --- |"]
DEFAULT_MOST = 60  # characters that fit into a table


def readmes():
    """Yield (path, text as it should be) of every role's README.md."""
    for specs in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        path = specs.parents[1] / "README.md"
        kept = path.read_text() if path.exists() else ""
        example = re.search(r"^## Example\n(.*?)^## Variables$", kept, re.M | re.S)
        entries = yaml.safe_load(specs.read_text())["argument_specs"]
        yield path, readme(path.parent.name, entries, example.group(1) if example else "")


def readme(role, entries, example):
    """Return the text of a README.md; *entries* is {entry point: specification}, main first."""
    main, *others = entries.items()
    parts = [f"# Role {role}", NOTE, described(main[1]), "## Example", example.strip()]
    parts += ["## Variables", *tables(main[1]["options"])]
    for name, spec in others:
        parts += [f"## Entry point {name}", described(spec), *tables(spec["options"])]
    return "\n\n".join(parts) + "\n"


def described(spec):
    return f"{spec['short_description']}. {text(spec.get('description', ''))}".strip()


def tables(options, path=""):
    """Yield the table of *options* and, under headings, those of the options inside of them."""
    rows = [f"| {name} | {kind(o)} | {default(o)} | {meaning(o)} |" for name, o in options.items()]
    yield (f"### In {path}\n\n" if path else "") + "\n".join(HEADER + rows)
    for name, option in options.items():
        if "options" in option:
            yield from tables(option["options"], f"{path}.{name}".lstrip("."))


def kind(option):
    if "elements" not in option:
        return option["type"]
    # What has options is a dict, also where the module and not Ansible checks it.
    elements = "dict" if "options" in option else option["elements"]
    return f"{option['type']} of {elements}"


def default(option):
    if "default" not in option:
        return "required" if option.get("required") else ""
    value = option["default"]
    shown = value if isinstance(value, str) and value else json.dumps(value)
    return cell(f"`{shown}`") if len(shown) <= DEFAULT_MOST else "[long](defaults/main.yml)"


def meaning(option):
    choices = ", ".join(f"`{choice}`" for choice in option.get("choices", []))
    return cell(text(option["description"]) + (f" One of {choices}." if choices else ""))


def text(marked_up):
    """Return Ansible's markup as Markdown: C(x), V(x) and O(x) are all code."""
    whole = " ".join(marked_up if isinstance(marked_up, list) else [marked_up])
    code = re.sub(r"\b[CVO]\(((?:\\.|[^\\)])*)\)", r"`\1`", " ".join(whole.split()))
    return code.replace("\\)", ")")


def cell(content):
    return content.replace("|", "\\|")


if __name__ == "__main__":
    for readme_path, content in readmes():
        readme_path.write_text(content)
