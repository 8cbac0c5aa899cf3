# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import hashlib

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import (
    releases,
    sapis,
    tarball,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension.request import (
    Request,
)

NEWEST = releases.RELEASES[-1]
OLDER = next(release for release in releases.RELEASES if not release.sha256)
SUM = "ab" * 32
POOL = "pool/main/p/php-gearman/php-gearman_2.1.4.orig.tar.gz"


def request(**options):
    return Request(method="source", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "package", "url": ("https://a/b",)}, ["url", "method: 'source' only"]),
        ({"method": "package", "path": "/a"}, ["path", "'/a'", "method: 'source' only"]),
        ({"method": "package", "checksum": SUM}, ["checksum", "method: 'source' only"]),
        ({"method": "package", "run_tests": True}, ["run_tests", "method: 'source' only"]),
        ({"version": "2.1.*"}, ["version", "'2.1.*'", "like '2.1.4'"]),
        ({"path": "/a", "url": ("https://a/b",)}, ["path", "'/a'", "Leave one of them out"]),
        ({"path": "a.tgz"}, ["path", "'a.tgz'", "like /srv/"]),
        ({"url": ("file:///etc/passwd",)}, ["url", "'file:///etc/passwd'", "HTTPS"]),
        ({"url": ("https://a",)}, ["url", "'https://a'", "Correct it"]),
        ({"checksum": "md5:1234"}, ["checksum", "'md5:1234'", "sha256sum", "'unverified'"]),
        ({"debian": False}, ["debian", "False", "Give url or path"]),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(InvalidOption) as error:
        tarball.check_options(Request(**{"method": "source", **options}))
    for word in words:
        assert word in str(error.value)


def test_a_password_in_a_url_is_refused_and_not_shown():
    with pytest.raises(InvalidOption) as error:
        tarball.check_options(request(url=("https://me:secret@example.org/a.tgz",)))
    assert "secret" not in str(error.value)
    assert "auth.conf" in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": "2.1.5RC1"},
        {"checksum": SUM},
        {"checksum": "sha256:" + SUM.upper()},
        {"checksum": "unverified"},
        {"url": ("http://a/b", "https://a/{version}.tgz"), "debian": False},
    ],
)
def test_options_that_can_be(options):
    tarball.check_options(request(**options))


@pytest.mark.parametrize(
    ("options", "locations"),
    [
        ({}, [("debian", POOL, NEWEST.sha256)]),
        ({"checksum": SUM}, [("debian", POOL, SUM)]),
        (
            {"url": ("http://a/gearman-{version}.tgz", "http://b/g")},
            [
                ("url", "http://a/gearman-2.1.4.tgz", NEWEST.sha256),
                ("url", "http://b/g", NEWEST.sha256),
                ("debian", POOL, NEWEST.sha256),
            ],
        ),
        (
            {"url": ("http://a/g",), "checksum": "sha256:" + SUM.upper(), "debian": False},
            [("url", "http://a/g", SUM)],
        ),
        (
            {"url": ("http://a/g",), "checksum": "unverified"},
            [("url", "http://a/g", None), ("debian", POOL, NEWEST.sha256)],
        ),
        ({"path": "/a"}, [("path", "/a", NEWEST.sha256)]),
    ],
)
def test_locations(options, locations):
    assert tarball.locations(request(**options), NEWEST) == locations


def test_debian_has_not_every_release():
    with pytest.raises(InvalidOption) as error:
        tarball.locations(request(), OLDER)
    for words in (repr(OLDER.version), "not in Debian's archive", "That has 2.1.4", "url or path"):
        assert words in str(error.value)
    assert [release.version for release in tarball.candidates(request())] == ["2.1.4"]
    assert tarball.candidates(request(path="/a")) == releases.RELEASES


def test_a_checksum_is_needed_where_none_is_known():
    for options in ({"url": ("https://a/b",)}, {"path": "/a"}):
        with pytest.raises(InvalidOption, match=r"checksum: None is needed.*sha256sum.*unverified"):
            tarball.locations(request(**options), OLDER)


CONTENT = b"a tarball"
CONTENT_SUM = hashlib.sha256(CONTENT).hexdigest()


def locations(path, sha256):
    return [tarball.Location("path", path, sha256)]


def test_the_file_at_path_is_checked_at_once(tmp_path):
    path = str(tmp_path / "g.tgz")
    missing = tarball.check_path(request(path=path), locations(path, SUM))
    assert missing == locations(path, SUM)
    (tmp_path / "g.tgz").write_bytes(CONTENT)
    for expected in (None, CONTENT_SUM):
        checked = tarball.check_path(request(path=path), locations(path, expected))
        assert checked == locations(path, CONTENT_SUM)
    with pytest.raises(InvalidOption) as error:
        tarball.check_path(request(path=path), locations(path, SUM))
    for words in ("path", repr(path), SUM, CONTENT_SUM, "correct checksum"):
        assert words in str(error.value)


class Apt:
    """apt-get's list of mirrors, and its downloader: *files* is {address: content}."""

    def __init__(
        self, files, mirrors="http://one/debian/\nhttp://one/debian/\nhttp://two/debian\n"
    ):
        self.files = files
        self.mirrors = mirrors
        self.asked = []

    def __call__(self, argv, **_):
        if argv[0] == "apt-get":
            return 0, self.mirrors, ""
        address, target = argv[-2:]
        self.asked.append(address)
        if address not in self.files:
            return 100, "", f"E: Failed to fetch {address}  404  Not Found\n"
        with open(target, "wb") as file:
            file.write(self.files[address])
        return 0, "", ""


def fetch(apt, tmp_path, *places):
    return tarball.fetch(
        sapis.Host(apt), NEWEST, [tarball.Location(*place) for place in places], str(tmp_path)
    )


def test_the_first_location_that_has_it_is_taken(tmp_path):
    apt = Apt({"http://b/g": CONTENT, "http://c/g": CONTENT})
    places = [("url", f"http://{host}/g", CONTENT_SUM) for host in "abc"]
    assert fetch(apt, tmp_path, *places) == CONTENT
    assert apt.asked == ["http://a/g", "http://b/g"]


def test_every_mirror_of_debian_is_asked_once(tmp_path):
    apt = Apt({f"http://two/debian/{POOL}": CONTENT})
    assert fetch(apt, tmp_path, ("debian", POOL, CONTENT_SUM)) == CONTENT
    assert apt.asked == [f"http://one/debian/{POOL}", f"http://two/debian/{POOL}"]


def test_a_wrong_checksum_is_as_good_as_no_answer(tmp_path):
    apt = Apt({"http://a/g": b"other", "http://b/g": CONTENT})
    assert fetch(apt, tmp_path, *[("url", f"http://{a}/g", CONTENT_SUM) for a in "ab"]) == CONTENT


def test_any_content_is_accepted_where_that_was_asked_for(tmp_path):
    assert fetch(Apt({"http://a/g": b"any"}), tmp_path, ("url", "http://a/g", None)) == b"any"


def test_nobody_has_it(tmp_path):
    apt = Apt({"http://a/g": b"other"}, mirrors="http://me:secret@one/debian/\n")
    places = [("url", "http://a/g", SUM), ("debian", POOL, SUM), ("path", "/nowhere", SUM)]
    with pytest.raises(GearvisorError) as error:
        fetch(apt, tmp_path, *places)
    for words in (
        f"url http://a/g: its SHA-256 sum is {hashlib.sha256(b'other').hexdigest()}, not {SUM}",
        f"debian http://one/debian/{POOL}: Failed to fetch",
        "404  Not Found",
        "path /nowhere: No such file",
        "not touched",
    ):
        assert words in str(error.value)
    assert "secret" not in str(error.value)


def test_no_mirror(tmp_path):
    with pytest.raises(GearvisorError, match="apt knows no mirror"):
        fetch(Apt({}, mirrors=""), tmp_path, ("debian", POOL, SUM))


def test_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(tarball, "_MOST_BYTES", 4)
    with pytest.raises(GearvisorError, match="larger than"):
        fetch(Apt({"http://a/g": CONTENT}), tmp_path, ("url", "http://a/g", None))
