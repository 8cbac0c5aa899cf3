# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import io
import os
import stat
import tarfile

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import archive


def tarball(*members, mode="w:gz"):
    """Return a tarball's bytes; a member is a name, (name, content) or (name, {TarInfo field: value})."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member in members:
            name, rest = (member, "") if isinstance(member, str) else member
            info = tarfile.TarInfo(name)
            data = b""
            if isinstance(rest, dict):
                for field, value in rest.items():
                    setattr(info, field, value)
            else:
                data = rest.encode()
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def damaged(content):
    """Return the bytes with the checksum in a gzip file's end changed."""
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


SOURCE = ("gearman-2.1.4/config.m4", "gearman-2.1.4/tests/1.phpt")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_unpack_shows_where_the_source_is(tmp_path, mode):
    content = tarball(("package.xml", "x"), *SOURCE, mode=mode)
    assert archive.unpack(content, str(tmp_path)) == str(tmp_path / "gearman-2.1.4")
    assert (tmp_path / "package.xml").read_text() == "x"
    assert (tmp_path / "gearman-2.1.4/tests/1.phpt").exists()


def test_pecls_tarballs_hold_files_twice(tmp_path):
    archive.unpack(tarball(*SOURCE, ("a", "old and longer"), ("a", "new")), str(tmp_path))
    assert (tmp_path / "a").read_text() == "new"


def test_modes_are_plain(tmp_path):
    members = [("s", {"mode": 0o6755}), ("p", {"mode": 0o600}), ("d", {"type": tarfile.DIRTYPE})]
    archive.unpack(tarball(*SOURCE, *members), str(tmp_path))
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o644
    assert (tmp_path / "d").is_dir()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("/etc/passwd", "x"), ["'/etc/passwd'", "absolute"]),
        (("../outside", "x"), ["'../outside'", "leads out"]),
        (("a/../../outside", "x"), ["'a/../../outside'", "leads out"]),
        (("l", {"type": tarfile.SYMTYPE, "linkname": "/etc"}), ["'l'", "link", "'/etc'"]),
        (("l", {"type": tarfile.SYMTYPE, "linkname": "a"}), ["'l'", "link", "'a'"]),
        (("l", {"type": tarfile.LNKTYPE, "linkname": "a"}), ["'l'", "link", "'a'"]),
        (("null", {"type": tarfile.CHRTYPE}), ["'null'", "neither a file"]),
        (("disk", {"type": tarfile.BLKTYPE}), ["'disk'", "neither a file"]),
        (("pipe", {"type": tarfile.FIFOTYPE}), ["'pipe'", "neither a file"]),
    ],
)
def test_nothing_is_written_when_one_member_is_bad(tmp_path, member, words):
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(GearvisorError) as error:
        archive.unpack(tarball(*SOURCE, member), str(place))
    for word in words:
        assert word in str(error.value)
    assert list(place.iterdir()) == []
    assert list(tmp_path.iterdir()) == [place]


def test_a_link_and_what_goes_through_it(tmp_path):
    link = ("gearman-2.1.4/x", {"type": tarfile.SYMTYPE, "linkname": "/tmp"})
    with pytest.raises(GearvisorError, match="is a link"):
        archive.unpack(tarball(link, ("gearman-2.1.4/x/evil", "x"), *SOURCE), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>404 Not Found</html>",
        tarball(*SOURCE)[:-20],
        tarball(*SOURCE, ("random", os.urandom(5000).hex()))[:4000],
        damaged(tarball(*SOURCE, ("random", os.urandom(5000).hex()))),
        tarball(*SOURCE, mode="w:xz")[:100],
        tarball(*SOURCE, mode="w:bz2")[:60],
        b"\x1f\x8b" + bytes(100),
    ],
    ids=[
        "empty",
        "a web page",
        "gz, cut",
        "gz, cut early",
        "gz, damaged",
        "xz, cut",
        "bz2, cut",
        "zeros",
    ],
)
def test_broken(tmp_path, content):
    with pytest.raises(GearvisorError, match="not a tarball, or a broken one"):
        archive.unpack(content, str(tmp_path))


@pytest.mark.parametrize(
    ("members", "words"),
    [(("a.c",), "no files config.m4"), ((*SOURCE, "other/config.m4"), "2 files config.m4")],
)
def test_not_one_extension(tmp_path, members, words):
    with pytest.raises(GearvisorError, match=words):
        archive.unpack(tarball(*members), str(tmp_path))


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 1024)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 5)
    for members in ([("a", "x" * 2000)], [str(number) for number in range(10)]):
        with pytest.raises(GearvisorError, match="holds more than"):
            archive.unpack(tarball(*SOURCE, *members), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["pax", "gnu"])
def test_a_header_that_is_a_bomb(tmp_path, kind):
    """tarfile would read it whole before it shows the member."""
    content = io.BytesIO()
    format_ = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT}[kind]
    with tarfile.open(fileobj=content, mode="w:gz", format=format_) as tar:
        member = tarfile.TarInfo("a" * 300 if kind == "pax" else "a" * 3_000_000)
        member.pax_headers = {"comment": "x" * 3_000_000}
        tar.addfile(member)
    with pytest.raises(GearvisorError, match="a header of 3"):
        archive.unpack(content.getvalue(), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


PACKAGE_XML = """<package><version>
  <release>2.1.4</release><api>2.1.4</api></version><stability><release>stable</release></stability>
<changelog><release><version><release>2.1.3</release></version></release></changelog></package>"""


@pytest.mark.parametrize("place", ["package.xml", "gearman-2.1.4/package.xml"])
def test_stated_version(tmp_path, place):
    directory = archive.unpack(tarball(*SOURCE, (place, PACKAGE_XML)), str(tmp_path))
    assert archive.stated_version(directory) == "2.1.4"


def test_no_stated_version(tmp_path):
    assert archive.stated_version(archive.unpack(tarball(*SOURCE), str(tmp_path))) is None
