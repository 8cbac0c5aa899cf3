from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.files import (
    read_text,
    remove_empty,
    restore_text,
    write_text,
)

ME = {"uid": os.geteuid(), "gid": os.getegid()}


def test_read_text(tmp_path):
    (tmp_path / "a").write_text("größe\n", encoding="utf-8")
    assert read_text(tmp_path / "a") == "größe\n"
    assert read_text(tmp_path / "b") is None


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_write_text_sets_mode_and_owner_whatever_the_umask(tmp_path, umask):
    path = tmp_path / "a.conf"
    old_umask = os.umask(umask)
    try:
        write_text(str(path), "größe\n", 0o640, **ME)
    finally:
        os.umask(old_umask)
    status = path.stat()
    assert path.read_text(encoding="utf-8") == "größe\n"
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == tuple(ME.values())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_write_text_gives_the_file_to_its_owner(tmp_path):
    write_text(str(tmp_path / "a"), "x", 0o600, uid=65534, gid=65534)
    assert (tmp_path / "a").stat().st_uid == 65534


def test_write_text_replaces_the_file_and_does_not_write_through_a_link(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "a").symlink_to("target")
    write_text(str(tmp_path / "a"), "new", 0o600, **ME)
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "target").read_text() == "old"


def test_a_reader_that_has_the_old_file_open_keeps_it_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("old text")
    with path.open() as reader:
        write_text(str(path), "new", 0o600, **ME)
        assert reader.read() == "old text"
    assert path.read_text() == "new"


@pytest.mark.parametrize("how", ["text", "target"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, how):
    if how == "text":
        (tmp_path / "a").write_text("old")
        text = "no UTF-8: \udc80"
    else:
        (tmp_path / "a").mkdir()
        text = "new"
    with pytest.raises((UnicodeEncodeError, OSError)):
        write_text(str(tmp_path / "a"), text, 0o600, **ME)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    if how == "text":
        assert (tmp_path / "a").read_text() == "old"


def test_restore_text(tmp_path):
    path = tmp_path / "a"
    restore_text(str(path), None, 0o600, **ME)
    assert not path.exists()
    restore_text(str(path), "text", 0o600, **ME)
    assert path.read_text() == "text"
    restore_text(str(path), None, 0o600, **ME)
    assert not path.exists()
    path.symlink_to("/not/there")
    restore_text(str(path), None, 0o600, **ME)
    assert not path.is_symlink()


def test_only_empty_directories_go(tmp_path):
    for name in ("empty/inner", "full/inner"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "full/file").touch()
    for name in ("empty", "full", "none"):
        remove_empty(str(tmp_path / name / "inner"), str(tmp_path / name))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]
