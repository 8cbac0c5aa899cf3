# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pausing and resuming functions."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest
from gearvisor import pause
from gearvisor.cli import main

NAMES = ["resize", "send mail", "a/b", "..", ".hidden", "gr\u00f6\u00dfe", "x\n\x1b[2J", "\udcff"]


@pytest.fixture
def run(tmp_path, capfd):
    def run(*arguments):
        code = main([*arguments, "--directory", str(tmp_path / "paused")])
        output, errors = capfd.readouterr()
        return code, output, errors

    return run


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_paused_and_resumed(tmp_path, name):
    directory = str(tmp_path / "paused")
    assert pause.paused(directory) == {}
    assert pause.pause([name], directory) == [name]
    assert pause.pause([name], directory) == []
    (since,) = pause.paused(directory).values()
    assert list(pause.paused(directory)) == [name]
    assert since == pytest.approx(time.time(), abs=60)
    (path,) = (tmp_path / "paused").iterdir()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    assert pause.resume([name], directory) == [name]
    assert pause.resume([name], directory) == []
    assert pause.paused(directory) == {}


def test_commands_show_what_is_paused(run):
    assert run("pause") == (0, "no function is paused\n", "")
    code, output, _ = run("pause", "resize", "x\ny")
    assert code == 0
    assert [line.split(" is paused since ")[0] for line in output.splitlines()] == [
        "resize",
        "x\\ny",
    ]
    document = json.loads(run("pause", "--json", "resize")[1])
    assert document["changed"] == [] and set(document["paused"]) == {"resize", "x\ny"}
    assert json.loads(run("resume", "--json", "resize")[1])["changed"] == ["resize"]
    assert run("resume", "--all") == (0, "no function is paused\n", "")


@pytest.mark.parametrize(
    ("name", "says"),
    [("", "is empty"), ("x" * 513, "limit is 512"), ("\u00e9" * 100, "the limit is 255")],
)
def test_a_name_that_cannot_be_paused_is_refused_before_anything_is(run, tmp_path, name, says):
    code, _, errors = run("pause", "fine", name)
    assert code == 2 and says in errors
    assert not (tmp_path / "paused").exists()


def test_files_that_do_not_stand_for_a_function_are_left_out(run, tmp_path):
    (tmp_path / "paused").mkdir()
    for name in ("%zz", "a b", ".tmp"):
        (tmp_path / "paused" / name).touch()
    assert run("pause") == (0, "no function is paused\n", "")


def test_a_directory_that_cannot_be_changed_is_named(run, tmp_path):
    (tmp_path / "paused").write_text("")
    code, _, errors = run("pause", "resize")
    assert code == 1 and "paused" in errors and "sudo" in errors
