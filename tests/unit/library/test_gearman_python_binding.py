# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import gearvisor
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python_binding import (
    environment,
)
from ansible_collections.gearvisor.gearvisor.plugins.modules import gearman_python_binding
from gearvisor import _build

testing = pytest.importorskip("ansible.module_utils.testing")

PACKAGE = Path(gearvisor.__file__).parent
PASSWORD = "Hunter2-of-the-test"


def test_the_wheel_holds_the_whole_package():
    """What the module does not import does not travel to the target with it."""
    names = zipfile.ZipFile(io.BytesIO(gearman_python_binding.wheel()[1])).namelist()
    sources = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert {name.partition("/")[2] for name in names if name.startswith("gearvisor/")} == sources


def test_the_wheel_is_the_one_that_pip_builds_from_the_project():
    sources = {path.name: path.read_bytes() for path in PACKAGE.glob("*.py")}
    assert gearman_python_binding.wheel() == _build.build(sources)


def run_main(capsys, **arguments):
    """Run main() as Ansible does; return (exit code, result, everything that was printed)."""
    with testing.patch_module_args(arguments), pytest.raises(SystemExit) as stopped:
        gearman_python_binding.main()
    printed = "".join(capsys.readouterr())
    return stopped.value.code, json.loads(printed), printed


@pytest.fixture
def tmp_path():
    """A separate directory: pytest's are closed to other users, and pip runs as one here."""
    path = Path(tempfile.mkdtemp(prefix="gearvisor-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def arguments(tmp_path):
    return {"venv": str(tmp_path / "hosts" / "venv"), "python": sys.executable}


def test_check_mode_shows_and_does_nothing(arguments, tmp_path, capsys):
    code, result, _ = run_main(capsys, **arguments, _ansible_check_mode=True, _ansible_diff=True)
    assert (code, result["changed"]) == (0, True)
    (diff,) = result["diff"]
    assert diff["before"] == ""
    assert diff["after"] == f"{arguments['venv']} -> {Path(result['environment']).name}\n"
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_option(arguments, capsys):
    code, result, _ = run_main(capsys, **arguments, wheelhouse="/nowhere/wheelhouse")
    assert code == 1
    assert result["msg"].startswith("wheelhouse: '/nowhere/wheelhouse' is not a directory")
    assert result["option"] == "wheelhouse"


def test_an_interpreter_that_workers_cannot_reach_is_refused(arguments, tmp_path, capsys):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    python = home / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    code, result, _ = run_main(
        capsys, **{**arguments, "python": str(python)}, _ansible_check_mode=True
    )
    assert (code, result["option"]) == (1, "python")
    assert f"is below {home}, which only its owner may enter" in result["msg"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {
                "index_url": f"http://me:{PASSWORD}@127.0.0.1:9/simple",
                "extra_index_urls": [f"http://me:{PASSWORD}@127.0.0.1:9/extra"],
                "requirements": [f"-i http://{PASSWORD}@127.0.0.1:9/", "app"],
            },
            "package index at 127.0.0.1:9",
        ),
        ({"requirements": [f"http://me:{PASSWORD}@127.0.0.1:9/app.zip"]}, "127.0.0.1:9/app.zip"),
        ({"index_url": f"http://me:{PASSWORD}@127.0.0.1:9/a simple"}, "index_url"),
        ({"index_url": f"http://me:{PASSWORD}@127.0.0.1:9", "binding": "no"}, "binding"),
        ({"extra_index_urls": [f"http://me:{PASSWORD}@127.0.0.1:9"], "binding": "no"}, "binding"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_failure_is_reported_without_passwords(arguments, capsys, monkeypatch, given, told):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    # Which is not what fails here.
    monkeypatch.setattr(environment._Build, "_install_binding", lambda _build: "1")
    code, result, printed = run_main(capsys, **{**arguments, "requirements": ["app"], **given})
    assert code == 1
    assert told in result["msg"]
    assert PASSWORD not in printed
