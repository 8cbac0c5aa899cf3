# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role's README.md and defaults match its argument_specs.yml, and its example fits."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

DOCS = runpy.run_path(str(Path(__file__).parents[3] / "tools/make_role_files.py"))
FILES = dict(DOCS["files"]())
READMES = [path for path in FILES if path.name == "README.md"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_file_is_up_to_date(path):
    assert path.read_text() == FILES[path], "stale: ./run docs makes it again"


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_example_sets_only_variables_that_exist(path):
    (example,) = re.findall(r"^## Example\n.*?```yaml\n(.*?)```", path.read_text(), re.M | re.S)
    specs = yaml.safe_load((path.parent / "meta/argument_specs.yml").read_text())["argument_specs"]
    known = {name for spec in specs.values() for name in spec["options"]}
    (play,) = yaml.safe_load(example)
    given = set(play.get("vars", {})).union(*(task.get("vars", {}) for task in play["tasks"]))
    assert [name for name in given if name.startswith(path.parent.name) and name not in known] == []


def test_markup_becomes_code():
    text = r"C(a) is V(%(process_num\)02d), or O(b=c); NEC(x) is no markup"
    assert DOCS["text"](text) == "`a` is `%(process_num)02d`, or `b=c`; NEC(x) is no markup"


def test_a_bar_does_not_end_the_cell():
    assert DOCS["default"]({"type": "str", "default": "{{ a | b }}"}) == r"`{{ a \| b }}`"


def test_options_inside_of_options_get_a_table_of_their_own():
    inner = {"name": {"type": "str", "required": True, "description": "Its name."}}
    option = {
        "type": "list",
        "elements": "dict",
        "description": ["Some.", "More."],
        "options": inner,
    }
    outer, table = DOCS["tables"]({"programs": option})
    assert "| programs | list of dict |  | Some. More. |" in outer
    assert (
        table.startswith("### In programs\n") and "| name | str | required | Its name. |" in table
    )


def test_the_example_is_kept(tmp_path):
    specs = {"main": {"short_description": "A role", "options": {}}}
    made = DOCS["readme"]("r", specs, "\nwords\n")
    assert made.index("## Example\n\nwords\n\n## Variables") > made.index("A role.")


def test_defaults_are_written_once_and_quoted_only_where_yaml_needs_it():
    first = {"role_a": {"default": "027"}, "role_b": {"default": ["x", "{{ y }}"]}}
    entries = {
        "main": {"options": first},
        "other": {"options": {**first, "shared": {"default": {}}}},
    }
    _note, start, *lines = DOCS["defaults"]("role", entries).splitlines()
    assert start == "---"
    assert lines == [
        'role_a: "027"',
        "role_b:",
        "  - x",
        '  - "{{ y }}"',
        "shared: {}  # noqa: var-naming[no-role-prefix]",
    ]
