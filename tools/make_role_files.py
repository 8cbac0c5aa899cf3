# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a role's README.md and defaults/main.yml from its meta/argument_specs.yml.

The README's section Example is kept by hand.
"""

from __future__ import annotations

import json
import pathlib
import re

import yaml

ROLES = pathlib.Path(__file__).resolve().parents[1] / "roles"
NOTE = "<!-- Made by ./run docs from meta/argument_specs.yml; only Example is written by hand. -->"
HEAD = "# Made by ./run docs from meta/argument_specs.yml, which says what each variable means."
HEADER = ["| name | type | default | meaning |", "| --- | --- | --- | --- |"]
DEFAULT_MOST = 60  # characters that fit into a table


class Dumper(yaml.SafeDumper):
    """YAML as it is written by hand: lists are indented, texts quoted only if they must be, by "."""

    def increase_indent(self, flow=False, indentless=False):
        return super().increase_indent(flow, False)

    def represent_str(self, value):
        return self.represent_scalar("tag:yaml.org,2002:str", value, "" if is_plain(value) else '"')


Dumper.add_representer(str, Dumper.represent_str)


def is_plain(value):
    """Return whether YAML reads the text as itself without quotes."""
    try:
        return yaml.safe_load(value) == value
    except yaml.YAMLError:
        return False


def files():
    """Yield (path, text as it should be) of every role's README.md and defaults/main.yml."""
    for specs in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        role = specs.parents[1]
        entries = yaml.safe_load(specs.read_text())["argument_specs"]
        path = role / "README.md"
        kept = path.read_text() if path.exists() else ""
        example = re.search(r"^## Example\n(.*?)^## Variables$", kept, re.M | re.S)
        yield path, readme(role.name, entries, example.group(1) if example else "")
        yield role / "defaults/main.yml", defaults(role.name, entries)


def defaults(role, entries):
    """Return the text of a defaults/main.yml; *entries* as for readme()."""
    # A variable of several entry points is written once.
    values = {
        name: option["default"]
        for entry in entries.values()
        for name, option in entry["options"].items()
    }
    lines = [f"{HEAD}\n---\n"]
    for name, value in values.items():
        line = yaml.dump({name: value}, Dumper=Dumper, sort_keys=False, width=1000)
        # The variables that all roles share have no role's name in front.
        shared = "" if name.startswith(role) else "  # noqa: var-naming[no-role-prefix]"
        lines.append(f"{line.rstrip()}{shared}\n")
    return "".join(lines)


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
    for made, content in files():
        made.parent.mkdir(exist_ok=True)
        made.write_text(content)
