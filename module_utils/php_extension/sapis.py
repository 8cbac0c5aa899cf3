# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to run PHP on this host: which are there, what they load, and that they load it.

A SAPI is one way to run PHP (cli, fpm, apache2, cgi). Each has its own directory
/etc/php/VERSION/SAPI/conf.d of links that phpenmod and phpdismod keep; see their manual pages.
Those of fpm and apache2 are read by a process that stays, and that has to be notified.
"""

from __future__ import annotations

import glob
import os
import pathlib
import re
import time
from typing import NamedTuple

from ..failure import GearvisorError
from ..host import host, journal
from ..host.changes import ChangeSet
from ..keeper.packaged import Packaged, VerbFailed

EXTENSION = "gearman"
SAPIS = ("cli", "fpm", "apache2", "cgi")
_PHP_PACKAGE = re.compile(r"(?:libapache2-mod-)?php(\d+\.\d+)(?:-(cli|fpm|cgi))?\Z")
_RELOAD_SECONDS = 10


class Host(NamedTuple):
    """*run* is like AnsibleModule.run_command. The rest: where things are on a host.

    *etc*: PHP's configuration. *notes*: what phpenmod and phpdismod did. *built*: extensions built
    here. *scratch*: where they are built; /tmp may be mounted so that no program runs from it. *journal*:
    what is noted of files before they change.
    """

    run: object
    etc: str = "/etc/php"
    notes: str = "/var/lib/php/modules"
    built: str = "/usr/local/lib/php"
    scratch: str = "/usr/local/src"
    proc: str = "/proc"
    pid_files: str = "/run"
    journal: str = journal.DIRECTORY

    def changes(self):
        """Return a new ChangeSet of the host's files."""
        return ChangeSet(host.Host(self.run, journal=self.journal))


class Daemon(NamedTuple):
    """A process that runs PHP and stays.

    *program*: the file that it runs PHP from. *check*: the command that checks its configuration.
    """

    service: str
    pid_file: str
    program: str
    check: list


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


def package(version, sapi):
    """Return the Debian package of a SAPI; that of Debian's default PHP for version ""."""
    return f"libapache2-mod-php{version}" if sapi == "apache2" else f"php{version}-{sapi}"


def found(installed, version):
    """Return the SAPIs of that PHP version among *installed* packages."""
    return [sapi for sapi in SAPIS if package(version, sapi) in installed]


def enabled(host, version, sapi, module):
    """Return whether phpenmod has enabled the module, by the name of its file in mods-available."""
    return bool(glob.glob(os.path.join(host.etc, version, sapi, "conf.d", f"[0-9]*-{module}.ini")))


def enabled_sapis(host, version, module):
    """Return the SAPIs for which the module is enabled."""
    return [sapi for sapi in SAPIS if enabled(host, version, sapi, module)]


def switch(host, command, version, sapi, module):
    """Run phpenmod or phpdismod. Raises GearvisorError when it refuses."""
    rc, out, err = host.run([f"/usr/sbin/{command}", "-v", version, "-s", sapi, module])
    if rc != 0:
        raise GearvisorError(
            f"sapis: {sapi!r} was refused by {command}: {(err or out).strip()}. "
            f"See /etc/php/{version}/mods-available/{module}.ini on the host"
        )


def extension_directory(host, version):
    """Return where that PHP looks for extensions: one directory for each API of PHP."""
    return host.run([f"/usr/bin/php{version}", "-n", "-r", "echo PHP_EXTENSION_DIR;"])[1].strip()


def prove(host, version, sapi=None, extension=None):
    """Load the extension in a separate process and return its version.

    Without *sapi* nothing but the file *extension* is loaded; with it, that SAPI's own
    configuration. Raises GearvisorError when PHP does not load it.
    """
    php = f"/usr/bin/php{version}"
    if sapi is None:
        argv, environment = [php, "-n", "-d", f"extension={extension}"], {}
    else:
        directory = os.path.join(host.etc, version, sapi)
        argv = [php, "-c", directory]
        environment = {"PHP_INI_SCAN_DIR": os.path.join(directory, "conf.d")}
    answer = host.run([*argv, *PRINT_VERSION], environ_update=environment)
    return version_in(version, sapi, *answer)


# On a separate line, since PHP may be set up to print its warnings, too.
PRINT_VERSION = ["-r", f'echo "\\n", phpversion("{EXTENSION}");']


def version_in(version, sapi, rc, out, err):
    """Return the extension's version in what PHP answers to PRINT_VERSION. Raises GearvisorError for none."""
    output, _newline, last = out.rpartition("\n")
    if rc != 0 or not re.match(r"\d", last):
        raise GearvisorError(
            f"php: {version!r} does not load the extension {EXTENSION} for {sapi or 'itself'}: "
            f"{(err.strip() or output.strip() or last.strip()) or 'it printed nothing'}. "
            f"See '/usr/bin/php{version} --ri {EXTENSION}' and "
            f"'dpkg --verify php{version}-{EXTENSION}' on the host"
        )
    return last.strip()


def daemon(host, version, sapi):
    """Return the Daemon of a SAPI, or None for one that has none."""
    if sapi == "fpm":
        program = f"/usr/sbin/php-fpm{version}"
        pid_file = os.path.join(host.pid_files, f"php/php{version}-fpm.pid")
        return Daemon(f"php{version}-fpm", pid_file, program, [program, "--test"])
    if sapi == "apache2":
        program = f"/usr/lib/apache2/modules/libphp{version}.so"
        pid_file = os.path.join(host.pid_files, "apache2/apache2.pid")
        return Daemon("apache2", pid_file, program, ["/usr/sbin/apache2ctl", "configtest"])
    return None


def loaded(host, daemon):
    """Return the set of files that the daemon runs PHP and the extension from; None if it does not run.

    A file that was replaced since it was loaded has " (deleted)" behind its name. An Apache
    that has not loaded PHP does not count as running.
    """
    try:
        pid = int(pathlib.Path(daemon.pid_file).read_text(encoding="ascii"))
        maps = pathlib.Path(host.proc, str(pid), "maps").read_text(errors="surrogateescape")
    except (OSError, ValueError):
        return None
    names = rf"{re.escape(daemon.program)}|/\S*/{EXTENSION}\.so"
    files = set(re.findall(rf"^.* ((?:{names})(?: \(deleted\))?)$", maps, re.MULTILINE))
    return files if any(file.startswith(daemon.program) for file in files) else None


def is_outdated(host, daemon, extensions):
    """Return whether the daemon runs with another PHP or other *extensions* (a set of files) than wanted."""
    return loaded(host, daemon) not in (None, {daemon.program, *extensions})


def start(host, daemon):
    """Start the daemon, or restart an Apache that ran before PHP came to it. Raises GearvisorError."""
    try:
        Packaged(daemon.service, host).restart()
    except VerbFailed as error:
        raise GearvisorError(
            f"sapis: {daemon.service} does not start: {error.reason}. "
            f"See '{' '.join(daemon.check)}' and the log of {daemon.service} on the host"
        ) from None


def bring_up_to_date(host, daemon, extensions):
    """Reload an outdated daemon, and restart it where a reload is not enough. Raises GearvisorError.

    A configuration that the daemon itself finds wrong is left alone: a reload would end the daemon.
    """
    rc, out, err = host.run(daemon.check)
    reason = (err or out).strip()
    service = Packaged(daemon.service, host)
    for verb in (service.reload, service.restart) if rc == 0 else ():
        reason = ""
        try:
            verb()
        except VerbFailed as error:
            reason = error.reason
        deadline = time.monotonic() + _RELOAD_SECONDS
        while time.monotonic() < deadline:
            if loaded(host, daemon) == {daemon.program, *extensions}:
                return
            time.sleep(0.05)
    raise GearvisorError(
        f"sapis: {daemon.service} does not load the extension {EXTENSION}: "
        f"{reason or 'neither a reload nor a restart shows why'}. "
        f"See '{' '.join(daemon.check)}' and the log of {daemon.service} on the host"
    )
