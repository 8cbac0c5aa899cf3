# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a change of the code, and what a tree of others cannot do to the run."""

import os
import pathlib
import shutil
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    fingerprint,
    options,
)


@pytest.fixture
def code(tmp_path):
    (tmp_path / "app/lib").mkdir(parents=True)
    (tmp_path / "app/main.py").write_text("1")
    (tmp_path / "app/lib/x.py").write_text("1")
    return tmp_path / "app"


def _touch(code):
    os.utime(code / "main.py", (1, 1))
    (code / "main.py").chmod(0o700)


def _cache(code):
    (code / "lib/__pycache__").mkdir()
    (code / "lib/__pycache__/x.pyc").write_text("x")


def _same_again(code):
    (code / "main.py").unlink()
    (code / "main.py").write_text("1")


FINGERPRINTS = {
    "content": (lambda code: (code / "lib/x.py").write_text("2"), True),
    "new file": (lambda code: (code / "new.py").write_text(""), True),
    "file gone": (lambda code: (code / "lib/x.py").unlink(), True),
    "renamed": (lambda code: (code / "main.py").rename(code / "run.py"), True),
    "odd name": (lambda code: open(os.fsencode(code) + b"/\xff", "w").close(), True),
    "time and mode": (_touch, False),
    "python's cache": (_cache, False),
    "written again": (_same_again, False),
    "version control": (
        lambda code: (code / ".git").mkdir() or (code / ".git/HEAD").write_text("x"),
        False,
    ),
    "a named pipe": (lambda code: os.mkfifo(code / "pipe"), True),
    "a dangling link": (lambda code: (code / "link").symlink_to("/not/there"), True),
}


@pytest.mark.parametrize(("change", "differs"), FINGERPRINTS.values(), ids=FINGERPRINTS)
def test_fingerprint_of_a_directory(code, change, differs):
    before = fingerprint.of_paths((str(code),))
    change(code)
    assert (fingerprint.of_paths((str(code),)) != before) is differs


def test_fingerprint_of_a_file_a_link_and_nothing(code):
    release = code.with_name("current")
    release.symlink_to("app")
    of_link = fingerprint.of_paths((str(release),))
    (code / "main.py").write_text("2")
    assert fingerprint.of_paths((str(release),)) == of_link
    release.unlink()
    release.symlink_to("app/lib")
    assert fingerprint.of_paths((str(release),)) != of_link

    of_file = fingerprint.of_paths((str(code / "main.py"),))
    (code / "main.py").write_text("3")
    assert fingerprint.of_paths((str(code / "main.py"),)) != of_file
    assert fingerprint.of_paths(()) is None


def test_fingerprint_of_what_is_not_there():
    with pytest.raises(InvalidOption, match=r"'/not/there' does not exist\. Deploy the code first"):
        fingerprint.of_paths(("/not/there",))
    assert fingerprint.of_paths(("/not/there",), check_mode=True)


def _release(code, name):
    (code.parent / "releases" / name).mkdir(parents=True, exist_ok=True)
    return code.parent / "releases" / name


def relink(link, target):
    link.unlink(missing_ok=True)
    link.symlink_to(target)


@pytest.mark.parametrize("below", [".", "lib"])
def test_a_link_below_a_listed_directory_is_noticed(code, below):
    """D8: current is switched, and the listed directory is the one above it."""
    link = code / below / "current"
    relink(link, _release(code, "1"))
    before = fingerprint.of_paths([str(code)])
    relink(link, _release(code, "2"))
    assert fingerprint.of_paths([str(code)]) != before
    relink(link, _release(code, "1"))
    assert fingerprint.of_paths([str(code)]) == before


def test_a_chain_of_links_is_noticed(code):
    relink(code.parent / "live", _release(code, "1"))
    relink(code.parent / "current", code.parent / "live")
    relink(code / "inside", code.parent / "live")
    listed = [str(code.parent / "current")], [str(code)]
    before = [fingerprint.of_paths(paths) for paths in listed]
    relink(code.parent / "live", _release(code, "2"))
    after = [fingerprint.of_paths(paths) for paths in listed]
    assert all(one != other for one, other in zip(before, after))


def test_the_content_of_a_linked_file_counts(code):
    settings = code.parent / "shared.env"
    settings.write_text("1")
    (code / ".env").symlink_to(settings)
    before = fingerprint.of_paths([str(code)])
    settings.write_text("2")
    assert fingerprint.of_paths([str(code)]) != before


@pytest.mark.parametrize("name", ["worker.log", "worker.log.1", "worker.log.10"])
def test_the_fleets_own_logs_do_not_count(code, name):
    """D9: otherwise every run would restart the fleet."""
    logs = {str(code / "worker.log")}
    before = fingerprint.of_paths([str(code)], logs=logs)
    (code / name).write_text("x")
    assert fingerprint.of_paths([str(code)], logs=logs) == before
    (code / "other.log").write_text("x")
    assert fingerprint.of_paths([str(code)], logs=logs) != before


@pytest.mark.parametrize(
    ("pattern", "name", "counts"),
    [
        ("*.log", "deep/x.log", False),
        ("storage", "storage/x", False),
        ("storage/", "storage/x", False),
        ("storage/*", "storage/x", False),
        ("var/cache", "var/cache/deep/x", False),
        ("var/cache", "var/other/x", True),
        ("*.log", "x.logs", True),
        ("storage/*", "lib/x", True),
    ],
)
def test_what_is_excluded(code, pattern, name, counts):
    path = code / name
    path.parent.mkdir(parents=True, exist_ok=True)
    before = fingerprint.of_paths([str(code)], [pattern])
    path.write_text("x")
    assert (fingerprint.of_paths([str(code)], [pattern]) != before) is counts


def test_each_program_has_its_own(code):
    other = code.with_name("other")
    shutil.copytree(code, other)
    given = {
        "a": {"command": "/x"},
        "b": {"command": "/x", "fingerprint": str(other)},
        "c": {"command": "/x", "fingerprint": []},
    }
    programs = options.typed_programs(
        {"programs": given, "event_listeners": {}, "fcgi_programs": {}}
    )
    before = fingerprint.of_programs(programs, [str(code)])
    (other / "main.py").write_text("2")
    after = fingerprint.of_programs(programs, [str(code)])
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert after["c"] is None


def test_a_programs_missing_path_is_named():
    programs = {"b": ("program", {"fingerprint": ["/not/there"]})}
    with pytest.raises(
        InvalidOption, match=r"^programs\.b\.fingerprint: '/not/there' does not exist"
    ):
        fingerprint.of_programs(programs)


@pytest.mark.parametrize(
    "path", ["/", "//", "/.", "/srv/..", "/proc", "/proc/1", "/sys/kernel", "/dev", "/run/x"]
)
def test_the_whole_host_is_refused(path):
    for place in ({"fingerprint": path}, {"fingerprint": ["/srv/app", path]}):
        with pytest.raises(InvalidOption, match="whole host or no place for code"):
            options.typed_options("programs.x", place)


def test_trees_without_an_end_are_refused(code, monkeypatch):
    monkeypatch.setattr(fingerprint, "_MOST_FILES", 3)
    fingerprint.of_paths([str(code)])
    (code / "one").write_text("")
    (code / "two").write_text("")
    with pytest.raises(InvalidOption, match="more than 3 files") as caught:
        fingerprint.of_paths([str(code)])
    assert "fingerprint_exclude" in str(caught.value)


def test_files_without_an_end_are_refused(code, monkeypatch):
    with open(code / "sparse", "wb") as file:
        file.truncate(1024**4)
    monkeypatch.setattr(fingerprint, "_MOST_BYTES", 3 * 1024**2)
    with pytest.raises(InvalidOption, match="more than 0 GB"):
        fingerprint.of_paths([str(code)])


def test_what_is_no_regular_file_is_not_read(code):
    """A pipe, a device and a link to one would block, or never end."""
    os.mkfifo(code / "pipe")
    (code / "zero").symlink_to("/dev/zero")
    (code / "self").symlink_to(code)
    assert fingerprint.of_paths([str(code)]) == fingerprint.of_paths([str(code)])
    assert fingerprint.of_paths([str(code / "pipe")])
    assert pathlib.Path(code / "pipe").is_fifo()


def test_no_device_is_opened(code, monkeypatch):
    (code / "link").symlink_to("/dev/zero")
    opened = []
    plain = os.open

    def noted(path, flags, *rest, **more):
        opened.append((os.path.realpath(path), flags))
        return plain(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", noted)
    fingerprint.of_paths([str(code)])
    assert {flags & os.O_PATH for path, flags in opened if path == "/dev/zero"} == {os.O_PATH}


def test_directories_without_an_end_are_refused_or_read(code):
    """An older Python's os.walk calls itself for each level."""
    here = os.getcwd()
    os.chdir(code)
    try:
        for _level in range(1100):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    try:
        assert fingerprint.of_paths([str(code)])
    except InvalidOption as error:
        assert "nested too deeply" in str(error)
    finally:
        # Too deep for pytest's own removal, which an older Python ends with an error.
        subprocess.run(["rm", "-r", code / "d"], check=True)
