# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import contextlib
import json
import os
import stat

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import (
    releases,
    sapis,
    source,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension.tarball import (
    Location,
)

RELEASE = releases.RELEASES[-1]
BUILT = source.Built(
    {"release": "2.1.4", "php": "/usr/lib/php/20220829", "libgearman": "1.1.20", "flags": "-O2"},
    b"tarball",
    b"extension",
    {"passed": 65, "failed": 0, "skipped": 0},
)
FROM = [Location("url", "http://a/g", source.sha256(b"tarball"))]


@pytest.fixture
def host(tmp_path):
    etc = tmp_path / "etc"
    (etc / "8.2/mods-available").mkdir(parents=True)
    (etc / "8.2/cli/conf.d").mkdir(parents=True)
    calls = []

    def run(argv, **_):
        calls.append(argv)
        return 0, "/usr/lib/php/20220829\n", ""

    host = sapis.Host(run, str(etc), str(tmp_path / "notes"), str(tmp_path / "built"))
    host.run.calls = calls
    return host


def put(host, built=BUILT):
    with contextlib.ExitStack() as undo:
        source.put_in_place(host, "8.2", built, undo)
        undo.pop_all()


@pytest.mark.parametrize(
    ("installed", "version"),
    [
        ({}, None),
        ({"libgearman-dev": "1.1.20+ds-1"}, None),
        ({"libgearman-dev": "1.1.20+ds-1", "libgearman8": "1.1.20+ds-1"}, "1.1.20+ds-1"),
        ({"libgearman8t64": "1.1.21+ds-1"}, "1.1.21+ds-1"),
    ],
)
def test_libgearman(installed, version):
    assert source.libgearman(installed) == version


def test_what_it_is_built_for(host):
    made_for = source.build_id(host, "8.2", RELEASE, "1.1.20+ds-1")
    assert made_for.pop("flags").startswith("--with-gearman=/usr ")
    assert made_for == {
        "release": "2.1.4",
        "php": "/usr/lib/php/20220829",
        "libgearman": "1.1.20+ds-1",
    }


def test_nothing_is_there(host):
    assert not source.is_installed(host, "8.2")
    assert source.stamp(host, "8.2") == {}
    assert source.versions(host) == []
    assert not source.is_current(host, "8.2", BUILT.made_for, FROM, False)


def test_what_was_put_there_is_current(host):
    put(host)
    assert source.is_installed(host, "8.2")
    assert source.versions(host) == ["8.2"]
    assert source.is_current(host, "8.2", BUILT.made_for, FROM, False)
    for path in (host.built, *source.paths(host, "8.2")[:2]):
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o044 == 0o044


@pytest.mark.parametrize("name", BUILT.made_for)
def test_it_is_built_again_when_something_changed(host, name):
    put(host)
    assert not source.is_current(host, "8.2", {**BUILT.made_for, name: "other"}, FROM, False)


@pytest.mark.parametrize(
    ("sums", "is_current"),
    [
        ([source.sha256(b"other")], False),
        ([source.sha256(b"other"), source.sha256(b"tarball")], True),
        ([None], True),
    ],
)
def test_it_is_built_again_when_the_tarball_is_another(host, sums, is_current):
    put(host)
    places = [Location("url", "http://a/g", one) for one in sums]
    assert source.is_current(host, "8.2", BUILT.made_for, places, False) is is_current


def test_it_is_built_again_to_be_tested(host):
    put(host, BUILT._replace(tests=None))
    assert source.is_current(host, "8.2", BUILT.made_for, FROM, run_tests=False)
    assert not source.is_current(host, "8.2", BUILT.made_for, FROM, run_tests=True)
    put(host)
    assert source.is_current(host, "8.2", BUILT.made_for, FROM, run_tests=True)


@pytest.mark.parametrize("damage", ["changed", "gone", "stamp"])
def test_it_is_built_again_when_it_is_damaged(host, damage):
    put(host)
    place = source.paths(host, "8.2")
    if damage == "changed":
        with open(place.extension, "ab") as file:
            file.write(b"x")
    elif damage == "gone":
        os.unlink(place.extension)
    else:
        with open(place.stamp, "w") as file:
            file.write('{"release": "2.1')
    assert not source.is_current(host, "8.2", BUILT.made_for, FROM, False)
    assert source.is_installed(host, "8.2")


@pytest.mark.parametrize("before", [None, BUILT])
def test_undo_brings_back_what_was_there(host, before):
    if before:
        put(host, before)
    with pytest.raises(RuntimeError), contextlib.ExitStack() as undo:
        source.put_in_place(host, "8.2", BUILT._replace(content=b"new", tarball=b"new"), undo)
        with open(source.paths(host, "8.2").extension, "rb") as file:
            assert file.read() == b"new"
        raise RuntimeError
    assert source.is_current(host, "8.2", BUILT.made_for, FROM, False) is bool(before)
    assert source.is_installed(host, "8.2") is bool(before)


def test_a_full_disk_leaves_the_old_extension(host, monkeypatch):
    put(host)

    def full(path, *_):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(source, "write_bytes", full)
    with pytest.raises(OSError), contextlib.ExitStack() as undo:
        source.put_in_place(host, "8.2", BUILT._replace(content=b"new", tarball=b"new"), undo)
    assert source.is_current(host, "8.2", BUILT.made_for, FROM, False)


def test_running_processes_keep_the_file_that_they_have_loaded(host):
    put(host)
    with open(source.paths(host, "8.2").extension, "rb") as loaded:
        put(host, BUILT._replace(content=b"new"))
        assert loaded.read() == b"extension"


def test_forget_leaves_nothing(host, tmp_path):
    put(host)
    place = source.paths(host, "8.2")
    with open(place.ini, "w") as file:
        file.write(source.ini_text(place.extension))
    os.symlink(place.ini, tmp_path / "etc/8.2/cli/conf.d/20-gearman-source.ini")
    note = tmp_path / "notes/8.2/cli/disabled_by_admin/gearman-source"
    other = note.with_name("gearman")
    note.parent.mkdir(parents=True)
    note.touch()
    other.touch()
    source.forget(host, "8.2")
    assert ["/usr/sbin/phpdismod", "-v", "8.2", "-s", "cli", "gearman-source"] in host.run.calls
    assert not source.is_installed(host, "8.2")
    assert not (tmp_path / "built").exists()
    assert [path for path in (tmp_path / "notes").rglob("*") if path.is_file()] == [other]


def test_forget_leaves_other_versions(host):
    put(host)
    os.makedirs(f"{host.built}/8.4")
    source.forget(host, "8.2")
    assert source.versions(host) == ["8.4"]


def test_stamp_is_json_for_people_too(host):
    put(host)
    with open(source.paths(host, "8.2").stamp) as file:
        assert json.load(file)["tests"]["passed"] == 65
