# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The PHP extension gearman from Debian's packages, per PHP version and SAPI.

A SAPI is one way to run PHP (cli, fpm, apache2). Each has its own directory
/etc/php/VERSION/SAPI/conf.d of links that phpenmod and phpdismod keep; see
their manual pages.
"""

from __future__ import annotations

import glob
import os
import re
import types
from typing import NamedTuple

from ..debian import packages, release
from ..debian.files import diffs, read_text, write_text
from ..failure import GearvisorError, InvalidOption

EXTENSION = "gearman"
SAPIS = ("cli", "fpm", "apache2")
_VERSION = re.compile(r"\d+\.\d+\Z")
_PHP_PACKAGE = re.compile(r"(?:libapache2-mod-)?php(\d+\.\d+)(?:-(cli|fpm))?\Z")


class Request(NamedTuple):
    """*php*: versions such as "8.2", empty for those found; *version*: the extension's package.

    *worker_files* is {file name: text}, put into *worker_directory*.
    """

    state: str = "present"
    php: tuple = ()
    sapis: tuple = ("cli",)
    version: str = None
    worker_directory: str = None
    worker_files: dict = types.MappingProxyType({})


class Host(NamedTuple):
    """*run* is like AnsibleModule.run_command; *etc* is where PHP keeps its configuration."""

    run: object
    etc: str = "/etc/php"


def check_request(request):
    """Raise InvalidOption for PHP versions and SAPIs that cannot be."""
    for version in request.php:
        if not _VERSION.match(version):
            raise InvalidOption(
                "php", version, "is no PHP version", "Write it like '8.2', in quotes"
            )
    for sapi in request.sapis:
        if sapi not in SAPIS:
            raise InvalidOption(
                "sapis", sapi, "is no SAPI of Debian's PHP", f"Use {', '.join(SAPIS)}"
            )


def worker_texts(request):
    """Return {path: text} of the worker's files. Raises InvalidOption for names and places that cannot be."""
    if not request.worker_files:
        return {}
    if not (request.worker_directory or "").startswith("/"):
        raise InvalidOption(
            "worker_directory",
            request.worker_directory,
            "is no absolute path",
            "Use a path like /opt/gearvisor/php",
        )
    for name in request.worker_files:
        if name != os.path.basename(name) or name.startswith("."):
            raise InvalidOption(
                "worker_files", name, "is no plain file name", "Leave out the directories"
            )
    return {
        os.path.join(request.worker_directory, name): text
        for name, text in sorted(request.worker_files.items())
    }


def php_versions(installed):
    """Return the PHP versions among *installed* packages ({name: version}), oldest first.

    >>> php_versions({"php8.2-cli": "8.2.32-1", "libapache2-mod-php8.4": "8.4.1-1", "php-cli": "2:8.2+93"})
    ['8.2', '8.4']
    """
    matches = (_PHP_PACKAGE.match(name) for name in installed)
    found = {
        match.group(1) for match in matches if match and match.string != f"php{match.group(1)}"
    }
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def sapi_package(version, sapi):
    """Return the Debian package of a SAPI."""
    return f"libapache2-mod-php{version}" if sapi == "apache2" else f"php{version}-{sapi}"


def wanted_packages(request, versions):
    """Return {package: version or None} for the PHP *versions*; Debian's default PHP if there are none.

    The command line PHP is always among them: it is what proves that the
    extension loads.
    """
    if not versions:
        sapis = {"apache2": "libapache2-mod-php", "fpm": "php-fpm", "cli": "php-cli"}
        return {
            "php-gearman": request.version,
            **{sapis[sapi]: None for sapi in ("cli", *request.sapis)},
        }
    wanted = {}
    for version in versions:
        wanted[f"php{version}-gearman"] = request.version
        for sapi in ("cli", *request.sapis):
            wanted[sapi_package(version, sapi)] = None
    return wanted


def converge(request, host, check_mode=False):
    """Make the extension what *request* says; return the module's result.

    Raises GearvisorError, before anything is enabled, when it does not load.
    """
    check_request(request)
    texts = worker_texts(request)
    release.check_supported()
    installed = packages.installed_versions(
        host.run, ["php*-cli", "php*-fpm", "libapache2-mod-php*", "php*-gearman"]
    )
    versions = list(request.php) or php_versions(installed)
    if request.state == "absent":
        return _absent(request, host, installed, versions, texts, check_mode)
    actions = []
    specifications = packages.missing(installed, wanted_packages(request, versions))
    if specifications:
        actions.append(f"install {' '.join(specifications)}")
        if not check_mode:
            packages.install(host.run, specifications, "state: 'present'")
            if not versions:
                versions = _default_versions(host)
    loaded = {}
    for version in versions:
        if not specifications or not check_mode:
            loaded[version] = prove(host, version)
        for sapi in request.sapis:
            if not _enabled(host, version, sapi):
                actions.append(f"enable {EXTENSION} for PHP {version} {sapi}")
                if not check_mode:
                    _switch(host, "phpenmod", version, sapi)
        if version in loaded and not check_mode:
            for sapi in request.sapis:
                prove(host, version, sapi)
    before = {path: read_text(path) for path in texts}
    if not check_mode:
        _write(request.worker_directory, before, texts)
    return _result(actions, loaded, request, before, texts)


def prove(host, version, sapi=None):
    """Load the extension in a process of its own and return its version.

    Without *sapi* nothing but the extension is loaded; with it, that SAPI's own
    configuration is. Raises GearvisorError when PHP does not load it.
    """
    php = f"/usr/bin/php{version}"
    code = ["-r", f'echo phpversion("{EXTENSION}");']
    if sapi is None:
        argv, environment = [php, "-n", "-d", f"extension={EXTENSION}.so", *code], {}
    else:
        directory = os.path.join(host.etc, version, sapi)
        argv = [php, "-c", directory, *code]
        environment = {"PHP_INI_SCAN_DIR": os.path.join(directory, "conf.d")}
    rc, out, err = host.run(argv, environ_update=environment)
    if rc != 0 or not re.match(r"\d", out):
        raise GearvisorError(
            f"php: {version!r} does not load the extension {EXTENSION} for {sapi or 'itself'}: "
            f"{(err or out).strip() or 'it says nothing'}. "
            f"See '{php} --ri {EXTENSION}' and 'dpkg --verify php{version}-gearman' on the host"
        )
    return out.strip()


def _absent(request, host, installed, versions, texts, check_mode):
    names = sorted(
        name
        for name in installed
        if name in ("php-gearman", *(f"php{version}-gearman" for version in versions))
    )
    before = {path: read_text(path) for path in texts}
    if not check_mode:
        if names:
            packages.remove(host.run, names)
        for path in [path for path, text in before.items() if text is not None]:
            os.unlink(path)
    return _result([f"remove {name}" for name in names], {}, request, before, dict.fromkeys(before))


def _write(directory, before, texts):
    for path, text in texts.items():
        if before[path] != text:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            write_text(path, text, 0o644)


def _default_versions(host):
    return php_versions(packages.installed_versions(host.run, ["php*-cli"]))


def _enabled(host, version, sapi):
    return bool(glob.glob(os.path.join(host.etc, version, sapi, "conf.d", f"*-{EXTENSION}.ini")))


def _switch(host, command, version, sapi):
    """Run phpenmod or phpdismod, and let a running fpm or Apache take notice."""
    rc, out, err = host.run([f"/usr/sbin/{command}", "-v", version, "-s", sapi, EXTENSION])
    if rc != 0:
        raise GearvisorError(
            f"sapis: {sapi!r} was refused by {command}: {(err or out).strip()}. "
            f"See /etc/php/{version}/mods-available/{EXTENSION}.ini on the host"
        )
    service = {"fpm": f"php{version}-fpm", "apache2": "apache2"}.get(sapi)
    if service and host.run(["service", service, "status"])[0] == 0:
        host.run(["service", service, "reload"])


def _result(actions, loaded, request, before, after):
    changed = [path for path in after if after[path] != before[path]]
    diff = diffs(before, {path: after[path] for path in changed})
    if actions:
        diff.append({"prepared": "".join(f"{action}\n" for action in actions)})
    return {
        "changed": bool(actions or changed),
        "actions": actions,
        "files": changed,
        "versions": loaded,
        "sapis": list(request.sapis),
        "diff": diff,
    }
