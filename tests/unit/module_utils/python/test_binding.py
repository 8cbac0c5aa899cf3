# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import os
import subprocess
import sys

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python import binding
from ansible_collections.gearvisor.gearvisor.plugins.modules import gearman_python_binding

WHEEL = ("gearvisor-1-py3-none-any.whl", b"wheel")


@pytest.mark.parametrize(
    "other",
    [
        {"binding": "pygearman"},
        {"requirements": ("six==1.17.0",)},
        {"python": "/usr/bin/python3.11"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_digest_differs_with_what_goes_in(other):
    base = binding.Request()
    assert binding.digest(base, WHEEL, "Python 3.11.2") == binding.digest(
        base, WHEEL, "Python 3.11.2"
    )
    assert binding.digest(base._replace(**other), WHEEL, "Python 3.11.2") != binding.digest(
        base, WHEEL, "Python 3.11.2"
    )


def test_digest_differs_with_wheel_and_python():
    base = binding.Request()
    digests = {
        binding.digest(base, WHEEL, "Python 3.11.2"),
        binding.digest(base, WHEEL, "Python 3.13.5"),
        binding.digest(base, (WHEEL[0], b"newer"), "Python 3.11.2"),
    }
    assert len(digests) == 3


def test_digest_counts_the_content_of_included_files(tmp_path):
    listing = tmp_path / "requirements.txt"
    listing.write_text("six==1.16.0\n")
    request = binding.Request(requirements=(f"-r {listing}",))
    before = binding.digest(request, WHEEL, "3")
    listing.write_text("six==1.17.0\n")
    assert binding.digest(request, WHEEL, "3") != before


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"venv": "opt/venv"}, ["venv", "'opt/venv'", "/opt/gearvisor/venv"]),
        ({"venv": "/"}, ["venv", "'/'", "/opt/gearvisor/venv"]),
        ({"requirements": ("a\nb",)}, ["requirements", "'a\\nb'", "one requirement"]),
        ({"requirements": ("-r /nowhere/x",)}, ["requirements", "/nowhere/x", "Deploy"]),
        ({"python": "/nowhere/python3"}, ["python", "/nowhere/python3", "/usr/bin/python3"]),
    ],
    ids=["relative", "root", "line break", "missing file", "missing interpreter"],
)
def test_bad_input_names_option_value_and_way_out(tmp_path, fields, words):
    request = binding.Request(**{"venv": str(tmp_path / "venv"), **fields})
    with pytest.raises(InvalidOption) as error:
        binding.converge(request, real_host())
    for word in words:
        assert word in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_made_by_somebody_else_is_refused(tmp_path):
    venv = tmp_path / "venv"
    venv.mkdir()
    with pytest.raises(InvalidOption, match="no link"):
        binding.converge(binding.Request(venv=str(venv)), real_host())


def real_host():
    def run(argv, **_):
        if argv[0] == "dpkg-query":
            return 0, "ii  python3-venv 3.11.2-1\n", ""
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except OSError as error:
            return error.errno, "", str(error)
        return done.returncode, done.stdout, done.stderr

    return binding.Host(run, gearman_python_binding.wheel())


def test_build_rerun_swap_and_failure(tmp_path):
    """One real environment is built; the rest of the story is told with it, since it takes seconds."""
    venv = tmp_path / "venv"
    request = binding.Request(venv=str(venv), python=sys.executable)

    assert binding.converge(request, real_host(), check_mode=True)["changed"]
    assert list(tmp_path.iterdir()) == []

    assert binding.converge(request, real_host())["changed"]
    answer = subprocess.run(
        [venv / "bin/gearvisor", "--help"], capture_output=True, text=True, check=True
    )
    assert "worker" in answer.stdout
    first = os.readlink(venv)

    assert not binding.converge(request, real_host())["changed"]

    broken = request._replace(requirements=(f"{tmp_path}/no-such.whl",))
    with pytest.raises(GearvisorError, match=r"requirements: .*no-such\.whl"):
        binding.converge(broken, real_host())
    assert os.readlink(venv) == first
    assert sorted(os.listdir(tmp_path)) == ["venv", first]

    assert binding.converge(request._replace(state="absent"), real_host())["changed"]
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_holds_the_whole_package():
    import io
    import pathlib
    import zipfile

    import gearvisor

    sources = {
        path.name for path in pathlib.Path(gearvisor.__file__).parent.iterdir() if path.is_file()
    }
    names = zipfile.ZipFile(io.BytesIO(gearman_python_binding.wheel()[1])).namelist()
    assert {name.partition("/")[2] for name in names if name.startswith("gearvisor/")} == sources
