# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Debian this is, and whether it is one that Gearvisor is made for."""

from __future__ import annotations

import shlex

from ..failure import GearvisorError

SUPPORTED = ("12", "13")
OS_RELEASE = "/etc/os-release"


def parse_os_release(text):
    """Return {NAME: value} of an os-release file (os-release(5)).

    >>> parse_os_release('ID=debian\\nVERSION_ID="12"\\n')
    {'ID': 'debian', 'VERSION_ID': '12'}
    """
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: "".join(shlex.split(value)[:1]) for name, equals, value in pairs if equals}


def check_supported(path=OS_RELEASE, untested=False):
    """Raise GearvisorError, before anything is touched, on any other system than Debian 12 or 13.

    *untested* lets other releases of Debian in, such as testing, whose os-release names no version.
    """
    try:
        with open(path, encoding="utf-8") as file:
            release = parse_os_release(file.read())
    except OSError:
        release = {}
    if release.get("ID") == "debian" and (untested or release.get("VERSION_ID") in SUPPORTED):
        return
    name = release.get("PRETTY_NAME") or "a system without /etc/os-release"
    way_out = "Take it out of the inventory groups gearman_job_servers and gearman_workers"
    if release.get("ID") == "debian":
        way_out += ", or set gearman_untested_release: true to try it"
    raise GearvisorError(
        f"This host runs {name}; Gearvisor supports Debian {' and '.join(SUPPORTED)}. {way_out}"
    )
