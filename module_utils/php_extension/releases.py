# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release of PECL gearman fits which PHP and which libgearman.

docs/php.md shows this table, a test compares the two, and explains how to add a release.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..failure import InvalidOption


class Release(NamedTuple):
    """A release of PECL gearman.

    *php*: the oldest and the newest PHP it works with. *libgearman*: the oldest it compiles with.
    *sha256*: of the tarball on PECL, where known. *in_debian*: Debian's archive carries that
    tarball, byte for byte. A release that is not in the table has None for what is not known.
    """

    version: str
    date: str = None
    php: tuple = None
    libgearman: str = None
    sha256: str = None
    in_debian: bool = False


# Read in November 2026, oldest first: the stable releases on PECL. Dates, PHP versions and, up to
# 1.1.1, libgearman from the releases' own package.xml and its notes. Those for PHP 7 before 2.1.0
# (2.0.1 to 2.0.6) exist as tags on GitHub only. What differs from package.xml:
# - It allows any PHP 5 to 1.0.0 and 1.0.1; the notes of 1.0.2 say "Updates for PHP 5.4".
# - It allows PHP 8.1 to 2.1.0, which does not compile there: it uses ZVAL_NEW_ARR, and the notes of
#   2.1.1 call its removal a compatibility fix.
# - Nothing states libgearman after 1.1.1, whose config.m4 looks for gearman_client_unique_status;
#   later ones still do.
RELEASES = (
    Release("1.0.0", "2011-12-02", ("5.1", "5.3"), "0.21"),
    Release("1.0.1", "2011-12-05", ("5.1", "5.3"), "0.21"),
    Release("1.0.2", "2012-03-05", ("5.1", "5.6"), "0.21"),
    Release("1.0.3", "2012-08-04", ("5.1", "5.6"), "0.21"),
    Release("1.1.0", "2012-09-22", ("5.1", "5.6"), "1.1.0"),
    Release("1.1.1", "2013-01-08", ("5.1", "5.6"), "1.1.0"),
    Release("1.1.2", "2013-08-28", ("5.1", "5.6"), "1.1.0"),
    Release("2.1.0", "2021-01-16", ("7.0", "8.0"), "1.1.0"),
    Release("2.1.1", "2024-04-02", ("7.0", "8.1"), "1.1.0"),
    Release("2.1.2", "2024-04-03", ("7.0", "8.3"), "1.1.0"),
    Release("2.1.3", "2025-01-06", ("7.0", "8.4"), "1.1.0"),
    Release(
        "2.1.4",
        "2025-01-07",
        ("7.1", "8.4"),
        "1.1.0",
        "1b16ae5e17736e2ce892fd96145fa8b9e1724106458535d0c7e3d4093a9091a9",
        in_debian=True,
    ),
)


def choose(php, libgearman, version=None, candidates=RELEASES):
    """Return the newest of *candidates* that fits both, or the one pinned by *version*.

    *libgearman* is the version of Debian's package, or None while there is none: then it is not
    compared. A pinned release that the table does not know is returned without its requirements.
    Raises InvalidOption when the pinned one does not fit, or none does.
    """
    fitting = [release for release in candidates if not misfits(release, php, libgearman)]
    if version is None:
        if fitting:
            return fitting[-1]
        raise InvalidOption(
            "php",
            php,
            f"has no release of gearman among {_listed(candidates)} that fits it"
            + (f" and libgearman {libgearman}" if libgearman else ""),
            _way_out(php, libgearman, "Choose one with version, and give its url or path"),
        )
    release = next((known for known in RELEASES if known.version == version), Release(version))
    problems = misfits(release, php, libgearman)
    if problems:
        raise InvalidOption(
            "version",
            version,
            f"does not work on this host: it {' and '.join(problems)}",
            _way_out(php, libgearman, "Leave version out to get the newest of them"),
        )
    return release


def misfits(release, php, libgearman):
    """Return the list of reasons why the release does not work with these; empty when it does."""
    problems = []
    if release.php and not _number(release.php[0]) <= _number(php) <= _number(release.php[1]):
        problems.append(f"works with PHP {release.php[0]} to {release.php[1]}, not with {php}")
    if release.libgearman and libgearman and _number(libgearman) < _number(release.libgearman):
        problems.append(
            f"needs libgearman {release.libgearman} or later, and this host has {libgearman}"
        )
    return problems


def _way_out(php, libgearman, advice):
    fitting = [release for release in RELEASES if not misfits(release, php, libgearman)]
    if not fitting:
        return f"No release that is known fits; try method: 'package', Debian's own for PHP {php}"
    return f"Suitable releases: {_listed(fitting)}. {advice}"


def _listed(releases):
    return ", ".join(release.version for release in releases)


def _number(version):
    """Return what orders versions, of PHP as of Debian's packages: 1:1.1.20+ds-1 is (1, 1, 20)."""
    upstream = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in upstream.group(1).split("."))
