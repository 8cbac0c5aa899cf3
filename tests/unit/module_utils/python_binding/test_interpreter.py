# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python_binding import interpreter

WHOLE = (0, "[[3, 11, 2], null]\n", "")
SPLIT = (0, "[[3, 11, 2], \"No module named 'ensurepip'\"]\n", "")
MISSING = FileNotFoundError(2, "No such file or directory")
OLD = (0, "[[3, 8, 18], null]\n", "")


@pytest.fixture
def answering():
    """answering(before, after): interpreters answer that way, before and after a package came."""
    asked = []

    def make(before, after=None):
        def run(argv, **_):
            if argv[0] == "apt-get":
                asked.append(argv[-1])
                return (0, "", "") if after else (100, "", "E: Unable to locate package")
            answer = after if asked and after else before
            if isinstance(answer, OSError):
                raise answer
            return answer

        run.asked = asked
        return run

    return make


@pytest.fixture(autouse=True)
def _no_policy(tmp_path, monkeypatch):
    """apt-get is not really called here, so no service needs to be kept from starting."""
    monkeypatch.setattr(interpreter.packages, "POLICY", str(tmp_path / "policy-rc.d"))


def run_really(argv, **_):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_this_python_is_ready():
    assert interpreter.ready(run_really, sys.executable) == "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("/usr/bin/python3", "python3-venv"),
        ("/usr/bin/python3.13", "python3.13-venv"),
        ("/usr/bin/python3-dbg", None),
        ("/usr/local/bin/python3.13", None),
        ("/opt/usr/bin/python3", None),
    ],
)
def test_what_debian_splits_off_is_installed_for_its_own_interpreters(answering, path, package):
    run = answering(SPLIT, WHOLE)
    if package is None:
        with pytest.raises(InvalidOption):
            interpreter.ready(run, path)
        assert run.asked == []
    else:
        assert interpreter.ready(run, path, check_mode=True) is None
        assert run.asked == []
        assert interpreter.ready(run, path) == "3.11"
        assert run.asked == [package]


def test_a_whole_interpreter_needs_no_package(answering):
    run = answering(WHOLE)
    assert interpreter.ready(run, "/usr/bin/python3") == "3.11"
    assert interpreter.ready(run, "/usr/bin/python3", check_mode=True) == "3.11"
    assert run.asked == []


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/srv/python3", MISSING, ["No such file", "Install it first, or use", "/usr/bin/"]),
        ("python3.11", WHOLE, ["is not an absolute path", "/usr/bin/python3"]),
        ("/srv/python3", (126, "", "Permission denied"), ["Permission denied", "Install it"]),
        ("/srv/python3", (3, "", ""), ["exit code 3"]),
        ("/srv/shim", (127, "", "a\npyenv: not found\nsee help"), ["pyenv: not found; see help"]),
        ("/srv/ls", (0, "a b", ""), ["does not run on this host: a b"]),
        ("/srv/python3", OLD, ["is Python 3.8.18", "Use 3.9 or later, such as /usr/bin/python3"]),
        ("/usr/bin/python3.8", OLD, ["is Python 3.8.18", "Use 3.9 or later"]),
        ("/srv/python3", SPLIT, ["No module named 'ensurepip'", "python3-venv"]),
    ],
)
def test_interpreters_that_do_not_do(answering, path, answer, words, check_mode):
    run = answering(answer, WHOLE)
    with pytest.raises(InvalidOption) as error:
        interpreter.ready(run, path, check_mode)
    assert str(error.value).startswith(f"python: {path!r} ")
    for word in words:
        assert word in str(error.value)
    assert run.asked == []


def test_an_interpreter_of_debian_that_is_missing_comes_with_its_package(answering):
    run = answering(MISSING, WHOLE)
    assert interpreter.ready(run, "/usr/bin/python3.11", check_mode=True) is None
    assert interpreter.ready(run, "/usr/bin/python3.11") == "3.11"
    assert run.asked == ["python3.11-venv"]


def test_the_package_that_cannot_be_installed_is_named(answering):
    with pytest.raises(GearvisorError) as error:
        interpreter.ready(answering(SPLIT), "/usr/bin/python3.13")
    assert "python: '/usr/bin/python3.13' needs python3.13-venv" in str(error.value)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_directory_that_keeps_workers_out_is_found(tmp_path, mode):
    home = tmp_path / "home"
    python = home / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.touch()
    link = tmp_path / "python3"
    link.symlink_to(python)
    home.chmod(mode)
    # pytest's own directories keep others out as well.
    expected = str(home) if mode != 0o755 else interpreter.closed_directory(str(home))
    assert interpreter.closed_directory(str(link)) == expected
    assert interpreter.closed_directory("/bin/sh") is None
