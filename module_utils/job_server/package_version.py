# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of Debian's package gearman-job-server."""

from __future__ import annotations

import fnmatch
import re

from ..failure import GearvisorError, InvalidOption, Refused
from ..host import packages

PACKAGE = "gearman-job-server"
LATEST = "latest"


def check(version):
    """Refuse a text that is not a package version, the beginning of one and "*", or LATEST."""
    if version in (None, LATEST) or re.fullmatch(r"[0-9][A-Za-z0-9.+:~-]{0,99}\*?", version):
        return
    raise InvalidOption(
        "version",
        version,
        "is not a version of a Debian package",
        "Use one that 'apt-cache madison gearman-job-server' lists, its beginning and '*', or latest",
    )


def installed(host):
    """Return the version that is installed, or None."""
    return packages.installed_versions(host.run, [PACKAGE]).get(PACKAGE)


def wanted(host, found, version):
    """Return what apt-get has to be asked for; *found* is the installed version or None.

    Raises InvalidOption, in check mode only, for a version that apt does not know.
    """
    asked = version
    if version == LATEST:
        version = packages.candidate(host.run, PACKAGE) if found else None
    result = packages.missing({PACKAGE: found} if found else {}, {PACKAGE: version})
    if result and asked not in (None, LATEST) and host.check_mode:
        known = _known(host)
        if known and not fnmatch.filter(known, version):
            raise InvalidOption("version", version, *_not_known(known), versions=known)
    return result


def install(host, specifications, version):
    """Have apt-get install them. Raises GearvisorError."""
    option = f"version: {version!r}" if version else "gearman_job_server"
    try:
        packages.install(host.run, specifications, option)
    except GearvisorError:
        known = _known(host)
        if version and known and not fnmatch.filter(known, version):
            raise Refused("version", version, *_not_known(known), versions=known) from None
        raise


def _known(host):
    _rc, out, _err = host.run(["apt-cache", "madison", PACKAGE])
    return [line.split("|")[1].strip() for line in out.splitlines() if line.count("|") >= 2]


def _not_known(known):
    return (
        f"of {PACKAGE} is not known to apt on this host",
        f"It has: {', '.join(dict.fromkeys(known)) or 'none'}. Use one of these, the beginning of one "
        "and '*', or leave it out",
    )
