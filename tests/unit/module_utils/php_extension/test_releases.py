# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import re
from pathlib import Path

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import releases

DOCS = Path(__file__).parents[4] / "docs/php.md"
WHEEZY, BOOKWORM, TRIXIE = "0.33-2", "1.1.20+ds-1", "1.1.21+ds-1"

# release: (oldest PHP, newest PHP, a PHP too old, a PHP too new, libgearman enough, too old)
ROWS = {
    "1.0.0": ("5.1", "5.3", "5.0", "5.4", "0.21", "0.20"),
    "1.0.1": ("5.1", "5.3", "5.0", "5.4", "0.21", "0.20"),
    "1.0.2": ("5.1", "5.6", "5.0", "7.0", "0.21", "0.20"),
    "1.0.3": ("5.1", "5.6", "5.0", "7.0", WHEEZY, "0.20"),
    "1.1.0": ("5.1", "5.6", "5.0", "7.0", "1.1.0", WHEEZY),
    "1.1.1": ("5.1", "5.6", "5.0", "7.0", "1.1.0", WHEEZY),
    "1.1.2": ("5.1", "5.6", "5.0", "7.0", "1.1.0", WHEEZY),
    "2.1.0": ("7.0", "8.0", "5.6", "8.1", "1.1.0", "1.0.6-3"),
    "2.1.1": ("7.0", "8.1", "5.6", "8.2", "1.1.0", "1.0.6-3"),
    "2.1.2": ("7.0", "8.3", "5.6", "8.4", "1.1.0", "1.0.6-3"),
    "2.1.3": ("7.0", "8.4", "5.6", "8.5", "1.1.0", "1.0.6-3"),
    "2.1.4": ("7.1", "8.4", "7.0", "8.5", BOOKWORM, "1.0.6-3"),
}


def test_every_row_is_here():
    assert [release.version for release in releases.RELEASES] == list(ROWS)


@pytest.mark.parametrize("version", ROWS)
def test_row(version):
    oldest, newest, too_old, too_new, enough, too_little = ROWS[version]
    for php in (oldest, newest):
        assert releases.choose(php, enough, version).version == version
    for php, libgearman, reason in (
        (too_old, enough, f"PHP {oldest} to {newest}, not with {too_old}"),
        (too_new, enough, f"PHP {oldest} to {newest}, not with {too_new}"),
        (newest, too_little, f"or later, and this host has {too_little}"),
    ):
        with pytest.raises(InvalidOption) as error:
            releases.choose(php, libgearman, version)
        assert f"version: {version!r} does not work" in str(error.value)
        assert reason in str(error.value)


@pytest.mark.parametrize(
    ("php", "libgearman", "newest"),
    [
        ("5.3", "0.21", "1.0.3"),
        ("5.4", WHEEZY, "1.0.3"),
        ("5.4", "1.1.0", "1.1.2"),
        ("7.0", BOOKWORM, "2.1.3"),
        ("7.4", BOOKWORM, "2.1.4"),
        ("8.2", BOOKWORM, "2.1.4"),
        ("8.4", TRIXIE, "2.1.4"),
        ("8.4", None, "2.1.4"),
        ("8.4", "1:1.10.0-1", "2.1.4"),
    ],
)
def test_the_newest_that_fits_is_chosen(php, libgearman, newest):
    assert releases.choose(php, libgearman).version == newest


def test_the_articles_failure():
    """Wheezy: PHP 5.4 and libgearman 0.33, and PECL installs 1.1.x, which does not compile there."""
    with pytest.raises(InvalidOption) as error:
        releases.choose("5.4", WHEEZY, "1.1.2")
    assert str(error.value) == (
        "version: '1.1.2' does not work on this host: it needs libgearman 1.1.0 or later, and this "
        "host has 0.33-2. Suitable releases: 1.0.2, 1.0.3. Leave version out to get the newest of them"
    )


def test_the_articles_remedy_is_refused_on_a_current_debian():
    with pytest.raises(InvalidOption) as error:
        releases.choose("8.4", TRIXIE, "1.0.3")
    for words in ("'1.0.3'", "PHP 5.1 to 5.6, not with 8.4", "Suitable releases: 2.1.3, 2.1.4"):
        assert words in str(error.value)


def test_no_release_fits():
    with pytest.raises(InvalidOption) as error:
        releases.choose("9.0", TRIXIE)
    for words in ("php: '9.0'", "1.0.0", "2.1.4", "method: 'package'"):
        assert words in str(error.value)


def test_only_releases_that_can_be_had_are_chosen():
    in_debian = [release for release in releases.RELEASES if release.in_debian]
    assert releases.choose("7.4", BOOKWORM, candidates=in_debian).version == "2.1.4"
    with pytest.raises(InvalidOption) as error:
        releases.choose("7.0", BOOKWORM, candidates=in_debian)
    for words in ("php: '7.0'", "among 2.1.4", "Suitable releases: 2.1.0", "2.1.3", "url or path"):
        assert words in str(error.value)


def test_an_unknown_release_is_left_to_its_own_configure():
    assert releases.choose("8.5", TRIXIE, "2.1.5") == releases.Release("2.1.5")


def test_docs_show_the_table():
    rows = re.findall(r"^\| (\d[^|]*) \|(.*)\|$", DOCS.read_text(), re.MULTILINE)
    shown = {version: [cell.strip() for cell in cells.split("|")] for version, cells in rows}
    expected = {
        release.version: [release.date, " to ".join(release.php), release.libgearman]
        for release in releases.RELEASES
    }
    assert {version: shown.get(version, [])[:3] for version in expected} == expected
