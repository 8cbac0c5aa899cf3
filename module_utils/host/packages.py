# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages: a fast look with dpkg-query, apt-get only when something is missing.

*run* in every function is a callable like AnsibleModule.run_command:
run(argv, environ_update=...) -> (return code, stdout, stderr).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re

from ..failure import GearvisorError
from . import files, processes

APT_GET = [
    "apt-get",
    "--yes",
    "--no-install-recommends",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    "--option=DPkg::Lock::Timeout=120",
    "--option=Acquire::http::Timeout=20",
]
APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
# invoke-rc.d and deb-systemd-invoke ask this script before they start or stop a service.
POLICY = "/usr/sbin/policy-rc.d"
_ASIDE_SUFFIX = ".gearvisor"
_POLICY_TEXT = f"""#!/bin/sh
# Gearvisor installs packages: their services start once they are configured.
# This concerns only what its own apt-get runs; should it be left behind, it does nothing.
[ -z "${processes.MARK}" ] || exit 101
[ ! -x "$0{_ASIDE_SUFFIX}" ] || exec "$0{_ASIDE_SUFFIX}" "$@"
exit 0
"""
# What version 0.1.0 could leave behind, which keeps all packages from starting their services.
_OLD_POLICY_TEXT = "#!/bin/sh\n# Gearvisor installs packages.\nexit 101\n"


def parse_dpkg_query(text):
    """Return {package: version} of the installed packages in dpkg-query's output.

    Lines look like "ii  gearman-job-server 1.1.20+ds-1", or "hi" for a package on
    hold; removed packages whose configuration is left ("rc") are not installed.
    """
    installed = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and re.fullmatch(r"[a-z]i", fields[0]):
            installed[fields[1]] = fields[2]
    return installed


def installed_versions(run, names):
    """Return {package: version} for those of *names* (globs allowed) that are installed."""
    _rc, out, _err = run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package} ${Version}\n", *names]
    )
    return parse_dpkg_query(out)


def missing(installed, wanted):
    """Return what apt-get has to be asked for, as "name" or "name=version".

    *wanted* is {package: version or None}; a version may end in "*".
    """
    return [
        name if version is None else f"{name}={version}"
        for name, version in sorted(wanted.items())
        if name not in installed or not fnmatch.fnmatchcase(installed[name], version or "*")
    ]


def candidate(run, name):
    """Return the version that apt-get would install, None when it knows no such package."""
    _rc, out, _err = run(["apt-cache", "policy", name], environ_update=APT_ENVIRONMENT)
    match = re.search(r"^\s*Candidate: (\d\S*)$", out, re.MULTILINE)
    return match and match.group(1)


def install(run, specifications, why):
    """Install packages ("name" or "name=version") without starting their services.

    Package lists are fetched only when apt-get cannot do with those at hand.
    Raises GearvisorError, beginning with *why* (the option that wants them),
    when apt-get fails; apt-get itself then has changed nothing or reports what.
    """
    command = [*APT_GET, "--allow-downgrades", "install", *specifications]
    with services_left_alone() as mark:
        environment = {**APT_ENVIRONMENT, **mark}
        rc, out, err = run(command, environ_update=environment)
        if rc != 0:
            run([*APT_GET, "update"], environ_update=environment)
            rc, out, err = run(command, environ_update=environment)
    if rc != 0:
        raise GearvisorError(
            f"{why} needs {' '.join(specifications)}, which apt-get cannot install: "
            f"{apt_reason(out + err)}. Check this host's network and /etc/apt/sources.list*, "
            f"see 'apt-cache policy {specifications[0].partition('=')[0]}', then run this again."
        )


def remove(run, names, why="state: 'absent'"):
    """Remove packages, keeping their configuration and data.

    Raises GearvisorError, beginning with *why* (the option that has them go).
    """
    environment = {**APT_ENVIRONMENT, **processes.mark(ends=False)}
    rc, out, err = run([*APT_GET, "remove", *names], environ_update=environment)
    if rc != 0:
        raise GearvisorError(
            f"{why} cannot remove {' '.join(names)}: {apt_reason(out + err)}. "
            f"Run 'apt-get remove {' '.join(names)}' on the host to see its full output."
        )


def removed_with(run, names):
    """Return the packages that removing *names* removes: themselves, and what needs them."""
    _rc, out, _err = run([*APT_GET, "--simulate", "remove", *names], environ_update=APT_ENVIRONMENT)
    return re.findall(r"^Remv (\S+)", out, re.MULTILINE)


def apt_reason(output):
    """Return the lines in which apt-get reports what went wrong, joined by "; "."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line[3:].strip() for line in lines if line.startswith("E: ")]
    return "; ".join(errors or lines[-2:]) or "it gave no reason"


def _is_our_policy():
    try:
        with open(POLICY, "rb") as policy:
            return policy.read() in (_POLICY_TEXT.encode(), _OLD_POLICY_TEXT.encode())
    except OSError:
        return False


@contextlib.contextmanager
def services_left_alone():
    """Keep the apt-get of this run from starting services: Gearvisor's start once they are configured.

    gearman-job-server's installation fails outright when its default port is taken, so it must
    not be started by the package. The policy only concerns processes that carry this run's mark
    in their environment: other installations are not affected, and a policy that a killed run
    leaves behind does nothing until the next run removes it. Yields the environment for apt-get.
    """
    remove_policy()
    aside = POLICY + _ASIDE_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        os.link(POLICY, aside, follow_symlinks=False)
    try:
        files.write_text(POLICY, _POLICY_TEXT, 0o755)
        yield processes.mark(ends=False)
    finally:
        remove_policy()


def remove_policy():
    """Put back the host's own policy, or none, if Gearvisor's is there; return whether it was."""
    files.remove_temporaries(POLICY)
    aside = POLICY + _ASIDE_SUFFIX
    ours = _is_our_policy()
    if ours and os.path.lexists(aside):
        os.rename(aside, POLICY)
    elif ours:
        os.unlink(POLICY)
    elif os.path.lexists(aside):
        # It was noted, but Gearvisor's is not yet in place.
        os.unlink(aside)
    return ours
