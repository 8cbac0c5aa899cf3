# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/recipes and docs/recipes.md show is valid for the module and Supervisor's parsers."""

import pathlib
import re
import textwrap

import pytest
import yaml
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    config_file,
    options,
    sections,
)

ROOT = pathlib.Path(__file__).parents[4]
DEFAULTS = yaml.safe_load((ROOT / "roles/gearman_worker/defaults/main.yml").read_text())[
    "gearman_worker_program_defaults"
]


def documented():
    """Yield the programs of each block in docs/recipes.md."""
    text = (ROOT / "docs/recipes.md").read_text()
    for block in re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE):
        for part in re.split(r"(?=^    gearman_)", block, flags=re.MULTILINE):
            if part.startswith("    gearman_worker_programs"):
                yield yaml.safe_load(textwrap.dedent(part))["gearman_worker_programs"]


RECIPES = {
    path.parent.name: yaml.safe_load(path.read_text())["gearman_worker_programs"]
    for path in sorted((ROOT / "tests/recipes").glob("*/programs.yml"))
}
BLOCKS = {
    **RECIPES,
    **{f"page {number}: {block[0]['name']}": block for number, block in enumerate(documented())},
}


def test_there_are_seven_kinds_and_the_article():
    assert len(RECIPES) == 8
    assert len(BLOCKS) > 15


@pytest.mark.supervisords("all")
@pytest.mark.parametrize("name", BLOCKS)
def test_supervisors_parser_takes_it(name, dry_run, tmp_path):
    defaults = {**DEFAULTS, "user": "nobody"}
    given = {"programs": BLOCKS[name], "event_listeners": {}, "fcgi_programs": {}}
    overlay, directories, users = {}, set(), set()
    for program, (kind, typed) in options.typed_programs(given, defaults).items():
        found = sections.sections(program, typed, "processes", kind)
        sections.check_shared_logs(found)
        overlay[f"{program}.conf"] = config_file.render_file(
            "f", {section.title: section.options for section in found}
        )
        for section in found:
            users.add(section.options["user"])
            logs = [
                section.options.get(f"{channel}_logfile", "") for channel in ("stdout", "stderr")
            ]
            directories |= {str(pathlib.Path(log).parent) for log in logs if log.startswith("/")}
    answer = dry_run(
        overlay,
        directories=sorted(directories),
        users=sorted(users),
        environment={"PATH": "/usr/bin:/bin"},
    )
    assert answer["error"] is None
    expected = sum(program.get("numprocs", 1) for program in BLOCKS[name])
    assert len([title for title in answer["owners"] if title.startswith("program:")]) == expected
