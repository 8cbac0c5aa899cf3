# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel and the source archive, built with no network and the same each time."""

from __future__ import annotations

import email
import hashlib
import io
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from gearvisor import __version__, _build

PROJECT = Path(__file__).parents[3] / "python"
DOCUMENTS = {name: (PROJECT / name).read_bytes() for name in ("LICENSE", "README.md")}
SOURCES = {path.name: path.read_bytes() for path in (PROJECT / "src" / "gearvisor").glob("*.py")}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the project as the current directory, as a build front end has it."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    monkeypatch.chdir(project)
    return project


def test_the_wheel_is_the_same_bytes_from_any_order_of_files():
    name, wheel = _build.build(SOURCES)
    assert name == f"gearvisor-{__version__}-py3-none-any.whl"
    assert _build.build(dict(sorted(SOURCES.items(), reverse=True))) == (name, wheel)


def test_the_wheel_is_the_same_bytes_at_any_time_and_under_any_umask(copy, tmp_path):
    """As built by two people at different times: by separate processes, from separate files."""
    wheels = []
    for umask, time in (("022", 1_000_000_000), ("077", 2_000_000_000)):
        for path in copy.rglob("*.py"):
            path.chmod(0o666 & ~int(umask, 8))
            os.utime(path, (time, time))
        out = tmp_path / umask
        out.mkdir()
        build = f"import os; os.umask(0o{umask}); from gearvisor import _build"
        subprocess.run(
            [sys.executable, "-c", f"{build}; _build.build_wheel({str(out)!r})"],
            check=True, cwd=copy, env={**os.environ, "PYTHONPATH": "src", "TZ": f"UTC-{umask[1]}"},
        )  # fmt: skip
        wheels += [path.read_bytes() for path in out.iterdir()]
    assert len(wheels) == 2
    assert wheels[0] == wheels[1]


def test_the_wheel_is_the_same_bytes_from_any_python():
    """Sources that never change have a digest that never does, whichever user runs this test."""
    name, wheel = _build.build({"__init__.py": b'__version__ = "1.2"\n', "a.py": bytes(range(256))})
    assert name == "gearvisor-1.2-py3-none-any.whl"
    assert hashlib.sha256(wheel).hexdigest() == (
        "0b02d07cb066e321b6fc732866a9cd48dd2e705b4ab8ab04189a32fa5811972b"
    )


def test_the_hook_and_the_function_build_the_same_wheel(copy, tmp_path):
    name, wheel = _build.build(SOURCES, DOCUMENTS)
    assert _build.build_wheel(str(tmp_path)) == name
    assert (tmp_path / name).read_bytes() == wheel


def test_the_wheel_holds_the_package_and_its_metadata():
    archive = zipfile.ZipFile(io.BytesIO(_build.build(SOURCES)[1]))
    info = f"gearvisor-{__version__}.dist-info"
    assert set(archive.namelist()) == {
        *(f"gearvisor/{name}" for name in [*SOURCES, "py.typed"]),
        *(f"{info}/{name}" for name in ["METADATA", "WHEEL", "entry_points.txt", "RECORD"]),
    }
    metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    assert metadata["Name"] == "gearvisor"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.9"
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_published_wheel_carries_the_licence_and_a_description():
    archive = zipfile.ZipFile(io.BytesIO(_build.build(SOURCES, DOCUMENTS)[1]))
    info = f"gearvisor-{__version__}.dist-info"
    assert archive.read(f"{info}/licenses/LICENSE") == DOCUMENTS["LICENSE"]
    metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True) == DOCUMENTS["README.md"]


def test_a_version_that_cannot_be_found_is_an_error():
    with pytest.raises(ValueError, match="__version__"):
        _build.build({"__init__.py": b""})


def test_the_source_archive_builds_the_same_wheel(copy, tmp_path, monkeypatch):
    name = _build.build_sdist(str(tmp_path))
    first = (tmp_path / name).read_bytes()
    assert _build.build_sdist(str(tmp_path)) == name
    assert (tmp_path / name).read_bytes() == first
    subprocess.run(["tar", "-xzf", name], check=True, cwd=tmp_path)
    monkeypatch.chdir(tmp_path / name[: -len(".tar.gz")])
    wheel = _build.build_wheel(str(tmp_path))
    assert (tmp_path / wheel).read_bytes() == _build.build(SOURCES, DOCUMENTS)[1]


@pytest.mark.parametrize("mode", ["wheel", "editable"])
def test_pip_installs_it_without_network_and_the_command_runs(copy, tmp_path, mode):
    target = tmp_path / "venv"
    venv.create(target)
    python = target / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment.update(PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    source = ["--editable", "."] if mode == "editable" else ["."]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *source],
        check=True, env=environment,
    )  # fmt: skip
    for call in ([target / "bin" / "gearvisor"], [python, "-m", "gearvisor"]):
        done = subprocess.run(
            [*call, "--version"], check=True, env=environment, cwd=tmp_path, capture_output=True
        )
        assert done.stdout == f"gearvisor {__version__}\n".encode()
