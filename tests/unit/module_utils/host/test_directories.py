# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that a killed run was to replace."""

import os

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import directories


@pytest.mark.parametrize(
    ("names", "replaces", "left"),
    [
        ((), False, {}),
        (("new",), False, {}),
        (("old",), True, {"venv": "old"}),
        (("old aside",), True, {"venv": "old"}),
        (("new", "old aside"), True, {"venv": "old"}),
    ],
)
def test_what_was_there_is_there_whenever_the_run_was_killed(tmp_path, names, replaces, left):
    for name in names:
        place = tmp_path / ("venv.old" if name == "old aside" else "venv")
        place.mkdir()
        (place / "which").write_text(name.split()[0])
    facts = {"path": str(tmp_path / "venv"), "aside": str(tmp_path / "venv.old")}
    directories.undo(None, {**facts, "replaces": replaces})
    assert {name: (tmp_path / name / "which").read_text() for name in os.listdir(tmp_path)} == left
