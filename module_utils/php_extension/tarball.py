# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's tarball: the places that may have it, and getting it from the first that has the right one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import foreign, packages, trust
from . import releases
from .source import sha256

UNVERIFIED = "unverified"
_IN_DEBIAN = "pool/main/p/php-gearman/php-gearman_{version}.orig.tar.gz"

# apt's own downloader knows the proxies and the credentials that apt is set up with.
_COMMAND = [
    "/usr/lib/apt/apt-helper",
    "--option=Acquire::http::Timeout=20",
    "--option=Acquire::https::Timeout=20",
    "download-file",
]
_MOST_BYTES = 16 * 1024 * 1024  # a release has some 50 KB


class Location(NamedTuple):
    """One place to get the tarball from; *sha256* is None when any content is accepted."""

    option: str
    address: str
    sha256: str


def check_options(request):
    """Raise InvalidOption for options that cannot be, or not with this method."""
    if request.method != "source":
        for option, value in (
            ("url", request.url),
            ("path", request.path),
            ("checksum", request.checksum),
            ("run_tests", request.run_tests),
        ):
            if value:
                raise InvalidOption(
                    option, value, "applies to method: 'source' only", "Set that, or leave this out"
                )
        return
    if request.version and not re.fullmatch(r"\d+(\.\d+)+\w*", request.version):
        raise InvalidOption(
            "version", request.version, "is not a release of PECL gearman", "Write it like '2.1.4'"
        )
    if request.path and request.url:
        raise InvalidOption(
            "path", request.path, "cannot be combined with url", "Leave one of them out"
        )
    if request.path and not request.path.startswith("/"):
        raise InvalidOption(
            "path", request.path, "is not an absolute path", "Write it like /srv/gearman-2.1.4.tgz"
        )
    for url in request.url:
        if not re.fullmatch(r"https?://[^\s/]+/\S+", url):
            raise InvalidOption(
                "url", without_password(url), "is not an HTTP or HTTPS address", "Correct it"
            )
        if without_password(url) != url:
            raise InvalidOption(
                "url",
                without_password(url),
                "held a user or a password",
                "Put them into /etc/apt/auth.conf.d on the host, see apt_auth.conf(5)",
            )
    if request.checksum not in (None, UNVERIFIED) and not _stated_sum(request.checksum):
        raise InvalidOption(
            "checksum",
            request.checksum,
            "is not a SHA-256 checksum",
            f"Take the 64 digits that sha256sum prints, or {UNVERIFIED!r} to accept any content",
        )
    if not (request.path or request.url or request.debian):
        raise InvalidOption("debian", False, "leaves no source for the tarball", "Give url or path")


def without_password(text):
    """Return the text without users and passwords in its addresses.

    >>> without_password("http://me:secret@example.org/a")
    'http://example.org/a'
    """
    return re.sub(r"://[^/@\s]*@", "://", text)


def candidates(request):
    """Return the releases that there is a place for to get them from."""
    if request.path or request.url:
        return releases.RELEASES
    return tuple(release for release in releases.RELEASES if release.in_debian)


def locations(request, release):
    """Return [Location] of the release's tarball, to be tried in order. Raises InvalidOption."""
    if request.path:
        return [Location("path", request.path, _expected(request, release))]
    found = [
        Location("url", url.replace("{version}", release.version), _expected(request, release))
        for url in request.url
    ]
    if request.debian and release.in_debian:
        address = _IN_DEBIAN.replace("{version}", release.version)
        found.append(Location("debian", address, _stated_sum(request.checksum) or release.sha256))
    if not found:
        raise InvalidOption(
            "version",
            release.version,
            "is not in Debian's archive",
            f"That has {', '.join(one.version for one in releases.RELEASES if one.in_debian)}; "
            "for another give url or path, and checksum",
        )
    return found


def _expected(request, release):
    """Return the SHA-256 sum that a tarball from url or path must have; None when any will do."""
    if request.checksum == UNVERIFIED:
        return None
    expected = _stated_sum(request.checksum) or release.sha256
    if expected is None:
        raise InvalidOption(
            "checksum",
            None,
            f"is needed, since that of gearman {release.version} is not known here",
            f"Take what sha256sum prints of the tarball, or {UNVERIFIED!r} to accept any content",
        )
    return expected


def check_path(request, locations):
    """Return *locations* with the checksum of the file at path. Raises InvalidOption if it is wrong.

    Before a build takes time. A file that is not there yet is checked by the build: in check
    mode an earlier task may not have copied it.
    """
    content = _read(request.path)[0] if request.path else None
    if request.path and request.checksum == UNVERIFIED:
        way_out = "Give its checksum, or a path that only root can write to"
        trust.check("path", request.path, request.path, way_out=way_out)
    if content is None:
        return locations
    (location,) = locations
    actual = sha256(content)
    if location.sha256 not in (None, actual):
        raise InvalidOption(
            "path",
            request.path,
            f"has the SHA-256 sum {actual}, not {location.sha256}",
            "Download the tarball again, or correct checksum",
        )
    return [location._replace(sha256=actual)]


def fetch(host, release, locations, scratch):
    """Return the tarball's content. Raises GearvisorError with what was wrong with each location."""
    problems = []
    for location in _with_mirrors(host, locations):
        content, problem = _get(host, location, scratch)
        if content is not None:
            actual = sha256(content)
            if location.sha256 in (None, actual):
                return content
            problem = f"its SHA-256 sum is {actual}, not {location.sha256}"
        problems.append(without_password(f"{location.option} {location.address}: {problem}"))
    raise GearvisorError(
        f"method: 'source' found no usable tarball of gearman {release.version}: "
        f"{'; '.join(problems) or 'apt knows no mirror of Debian'}. "
        "The extension in use was not touched. Correct that, or give another url or path"
    )


def _with_mirrors(host, locations):
    """Yield the locations, Debian's once for each of the mirrors that this host's apt uses."""
    for location in locations:
        if location.option != "debian":
            yield location
            continue
        command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
        _rc, out, _err = host.run(command)
        for mirror in dict.fromkeys(out.split()):
            yield location._replace(address=f"{mirror.rstrip('/')}/{location.address}")


def _get(host, location, scratch):
    """Return (content, None), or (None, what went wrong)."""
    if location.option == "path":
        return _read(location.address)
    directory = tempfile.mkdtemp(dir=scratch)
    # apt loads as its own user.
    with contextlib.suppress(LookupError):
        shutil.chown(directory, "_apt")
    target = os.path.join(directory, "tarball")
    rc, out, err = host.run(
        [*_COMMAND, location.address, target], environ_update=packages.APT_ENVIRONMENT
    )
    # The directory is apt's user's, and so is the name in it; the content is checked by its sum.
    trusted = frozenset({0, os.stat(directory).st_uid})
    return _read(target, trusted) if rc == 0 else (None, packages.apt_reason(out + err))


def _read(path, trusted=frozenset({0})):
    """Return (content, None), or (None, what went wrong). Others' files are read with their rights.

    *trusted*: ids of users whose directories are read as root's.
    """
    try:
        return foreign.read_bytes(path, _MOST_BYTES, trusted), None
    except OSError as error:
        return None, f"{error.strerror} on this host"


def _stated_sum(text):
    """Return the sum that the option checksum states, or None."""
    match = re.fullmatch(r"(?:sha256:)?([0-9a-fA-F]{64})", text or "")
    return match.group(1).lower() if match else None
