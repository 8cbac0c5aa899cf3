# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python_binding import requirements

FILES = {
    "base.txt": b"six==1.17.0\n",
    "main.txt": b"# the application\n-r base.txt\n-c limits/all.txt  # upper bounds\nmail==2.4.0\n",
    "limits/all.txt": b"--requirement=../base.txt\n-r all.txt\n",
    "mail-1.0-py3-none-any.whl": b"wheel",
    "wheels.txt": b"{}/mail-1.0-py3-none-any.whl --hash=sha256:00\n",
}
LIMITS = ["main.txt", "base.txt", "limits/all.txt"]
WHEEL = "mail-1.0-py3-none-any.whl"


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.replace(b"{}", str(tmp_path).encode()))
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["six==1.17.0", "six[extra]>=1 ; python_version < '3.12'"], []),
        (["-r {}/base.txt"], ["base.txt"]),
        (["-r{}/base.txt"], ["base.txt"]),
        (["  --requirement  {}/base.txt"], ["base.txt"]),
        (["--constraint={}/base.txt"], ["base.txt"]),
        (["-c {}/base.txt # why"], ["base.txt"]),
        (["-r {}/main.txt"], LIMITS),
        (["-r {}/main.txt", "-r {}/base.txt"], LIMITS),
        (["-r https://example.org/requirements.txt"], []),
        (["# -r /nowhere"], []),
        (["{}/" + WHEEL], [WHEEL]),
        (["mail @ file://{}/" + WHEEL], [WHEEL]),
        (["mail @ file://{}/" + WHEEL + "#sha256=00"], [WHEEL]),
        (["{}/" + WHEEL + " ; python_version > '3'"], [WHEEL]),
        (["-r {}/wheels.txt"], ["wheels.txt", WHEEL]),
        (["mail @ https://example.org/mail-1.0-py3-none-any.whl"], []),
        (["--find-links /srv/wheels", "--require-hashes"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_contents(folder, lines, names):
    found = requirements.contents([line.replace("{}", str(folder)) for line in lines])
    assert found == {str(folder / name): (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r requirements.txt", ["'-r requirements.txt'", "Write '-r /path/to/requirements.txt'"]),
        ("-r /nowhere/a.txt", ["'-r /nowhere/a.txt'", "No such file", "Deploy the file first"]),
        ("-r /etc", ["'-r /etc'", "Is a directory"]),
        ("/nowhere/a.whl", ["'/nowhere/a.whl'", "No such file"]),
        ("-r {}/broken.txt", ["/broken.txt'", "needs {}/nowhere.txt", "correct the path"]),
    ],
)
def test_files_that_cannot_be_read_are_named(folder, line, words):
    (folder / "broken.txt").write_text("-r nowhere.txt\n")
    with pytest.raises(InvalidOption) as error:
        requirements.contents([line.replace("{}", str(folder))])
    assert error.value.details["option"] == "requirements"
    for word in words:
        assert word.replace("{}", str(folder)) in str(error.value)


def test_what_is_not_deployed_yet_is_left_out_if_it_may_be(folder):
    lines = ["-r /nowhere/a.txt", f"-r {folder}/base.txt"]
    assert list(requirements.contents(lines, missing_ok=True)) == [f"{folder}/base.txt"]


@pytest.mark.parametrize(
    ("text", "secrets", "shown"),
    [
        ("six==1.17.0", set(), "six==1.17.0"),
        ("https://example.org/simple", set(), "https://example.org/simple"),
        ("https://me:secret@example.org/", {"secret"}, "https://example.org/"),
        ("https://token@example.org/", {"token"}, "https://example.org/"),
        ("-i https://me:p%40ss@example.org/a", {"p%40ss", "p@ss"}, "-i https://example.org/a"),
        ("x @ git+https://me:key@example.org/x@v1", {"key"}, "x @ git+https://example.org/x@v1"),
        ("git+ssh://git@example.org/x@v1", set(), "git+ssh://git@example.org/x@v1"),
        ("https://example.org/@scope/x", set(), "https://example.org/@scope/x"),
    ],
)
def test_credentials(text, secrets, shown):
    assert requirements.credentials(["six", text]) == secrets
    assert requirements.without_credentials(text) == shown
