# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The PHP extension gearman, from Debian's packages or from source, per PHP version and SAPI.

Whatever comes is proved before it is enabled, and enabled before what it replaces goes.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption
from ..host import packages
from ..outcome import Outcome, prepared
from . import build, releases, sapis, source, tarball
from .request import check_request, worker_texts
from .sapis import EXTENSION, SAPIS, php_versions

_OF_INTEREST = [
    "php*-cli",
    "php*-fpm",
    "php*-cgi",
    "libapache2-mod-php*",
    f"php*-{EXTENSION}",
    "php*-dev",
    "libgearman[0-9]*",
    *source.BUILD_PACKAGES,
    *source.TEST_PACKAGES,
]


def converge(request, host, check_mode=False):
    """Apply *request* to the extension; return the Outcome. *host* is a sapis.Host.

    Raises GearvisorError, before anything in use is touched, when it cannot be built or does not
    load.
    """
    check_request(request)
    texts = worker_texts(request)
    work = _Work(request, host, check_mode)
    files = host.changes()
    for path, text in texts.items():
        files.want(path, None if request.state == "absent" else text)
    if request.state == "absent":
        work.remove_all()
    elif request.method == "package":
        work.converge_package()
    else:
        try:
            work.converge_source()
        except OSError as error:
            raise GearvisorError(
                f"method: 'source' stopped: {error.strerror}: {error.filename}. "
                "The extension in use was not touched"
            ) from error
    if files.changed and not check_mode:
        with files.applied():
            pass
    return work.result(files)


def wanted_packages(request, versions):
    """Return {package: version or None} for the PHP *versions* ({version: SAPIs}).

    Debian's default PHP if there are none. The command line PHP is always among them: it is what
    proves that the extension loads.
    """
    wanted = {}
    for version, its_sapis in versions.items() or [("", request.sapis)]:
        wanted.update(dict.fromkeys(sapis.package(version, sapi) for sapi in ("cli", *its_sapis)))
        if request.method == "package":
            wanted[f"php{version}-{EXTENSION}"] = request.version
    return wanted


class _Plan(NamedTuple):
    """What one PHP version gets from source. *is_current*: it has that already."""

    release: releases.Release
    locations: list
    made_for: dict
    is_current: bool


class _Work:
    """One run of the module: what is there, and what is done about it, or would be in check mode."""

    def __init__(self, request, host, check_mode):
        self.request = request
        self.host = host
        self.check_mode = check_mode
        self.actions = []
        self.loaded = {}
        self.tests = {}
        self.inis = host.changes()
        self._look()

    def _look(self):
        """Find the PHP versions, and for each the SAPIs that must have the extension."""
        self.installed = packages.installed_versions(self.host.run, _OF_INTEREST)
        self.versions = {
            version: self._sapis(version)
            for version in self.request.php or php_versions(self.installed)
        }

    def _sapis(self, version):
        wanted = self.request.sapis or sapis.found(self.installed, version)
        # Those that have it by the other method keep it.
        other = source.MODULE if self.request.method == "package" else EXTENSION
        return tuple(dict.fromkeys([*wanted, *sapis.enabled_sapis(self.host, version, other)]))

    def converge_package(self):
        installs = self._install(wanted_packages(self.request, self.versions), "state: 'present'")
        for version, its_sapis in self.versions.items():
            new = self._not_enabled(version, EXTENSION)
            replaces = source.is_installed(self.host, version)
            changes = bool(installs or new or replaces)
            if changes and not self.check_mode:
                sapis.prove(self.host, version, extension=f"{EXTENSION}.so")
            for sapi in new:
                self._do(
                    f"enable {EXTENSION} for PHP {version} {sapi}",
                    *(sapis.switch, self.host, "phpenmod", version, sapi, EXTENSION),
                )
            if replaces:
                self._forget(version)
            self._prove(version, changes)
            self._update_daemons(version, its_sapis, changes)

    def converge_source(self):
        if not self.versions:
            self._install(wanted_packages(self.request, {}), "method: 'source'")
            if self.check_mode:
                self.actions.append(f"build {EXTENSION} for the PHP that comes with it")
                return
        plans = self._plans()
        stale = [version for version, plan in plans.items() if not plan.is_current]
        displaced = self._displaced()
        new = {version: self._not_enabled(version, source.MODULE) for version in plans}
        with contextlib.ExitStack() as afterwards:
            if self._install_for_build(stale, afterwards) and not self.check_mode:
                plans = self._plans()
            built = self._build({version: plans[version] for version in stale}, afterwards)
            with contextlib.ExitStack() as undo:
                for version in built:
                    source.put_in_place(self.host, version, built[version], undo)
                with self._inis_written(plans), contextlib.ExitStack() as enabled:
                    for version in plans:
                        self._enable_built(version, new[version], enabled)
                    if displaced:
                        action = f"remove {' '.join(displaced)}"
                        self._do(action, self._remove, displaced, "method: 'source'")
                    for version in plans:
                        self._prove(version, bool(version in stale or displaced or new[version]))
                    enabled.pop_all()
                undo.pop_all()
        for version, its_sapis in self.versions.items():
            changes = bool(version in stale or displaced or new[version])
            self._update_daemons(version, its_sapis, changes)
            self.tests[version] = source.stamp(self.host, version).get("tests")

    def remove_all(self):
        built = [
            version
            for version in self.request.php or source.versions(self.host)
            if source.is_installed(self.host, version)
        ]
        names = (f"php-{EXTENSION}", *(f"php{version}-{EXTENSION}" for version in self.versions))
        names = [name for name in names if name in self.installed]
        if names:
            self._do(f"remove {' '.join(names)}", self._remove, names, "state: 'absent'")
        changes = bool(self.actions or built)
        for version in built:
            self._forget(version)
        for version in dict.fromkeys([*self.versions, *built]):
            self._update_daemons(version, SAPIS, changes, present=False)
        self.versions = {}

    def result(self, files):
        """Return the Outcome; *files* is the ChangeSet of the worker's files."""
        details = {
            "versions": self.loaded,
            "sapis": list(dict.fromkeys(sapi for its in self.versions.values() for sapi in its)),
            "tests": {version: counts for version, counts in self.tests.items() if counts},
        }
        return Outcome(
            bool(self.actions or files.changed),
            self.actions,
            files.paths(),
            files.diff() + self.inis.diff() + prepared(self.actions),
            details=details,
        )

    def _do(self, action, function, *arguments):
        self.actions.append(action)
        if not self.check_mode:
            function(*arguments)

    # --- packages -----------------------------------------------------------------------------

    def _install(self, wanted, why):
        """Install what is missing of *wanted*; return whether anything was, or would be."""
        before = self.installed
        missing = packages.missing(before, wanted)
        if missing:
            action = f"install {' '.join(missing)}"
            self._do(action, packages.install, self.host.run, missing, why)
            if not self.check_mode:
                self._look()
            self._start_what_is_new(before)
        return bool(missing)

    def _start_what_is_new(self, before):
        """Do what packages do for their services, had these not been left alone."""
        for version, its_sapis in self.versions.items():
            for sapi in its_sapis:
                daemon = sapis.daemon(self.host, version, sapi)
                if daemon and sapis.package(version, sapi) not in before:
                    self._do(f"start {daemon.service}", sapis.start, self.host, daemon)

    def _install_for_build(self, stale, afterwards):
        wanted = wanted_packages(self.request, self.versions)
        borrowed = []
        if stale:
            wanted.update(dict.fromkeys(source.BUILD_PACKAGES))
            wanted.update(dict.fromkeys(f"php{version}-dev" for version in stale))
        if stale and self.request.run_tests:
            wanted.update(dict.fromkeys(source.TEST_PACKAGES))
            # A host without a job server must have none afterwards.
            borrowed = [name for name in source.BORROWED_PACKAGES if name not in self.installed]
        installs = self._install(wanted, "method: 'source'")
        if borrowed and not self.check_mode:
            afterwards.callback(packages.remove, self.host.run, borrowed, "run_tests: True")
        return installs

    def _displaced(self):
        """Return the packages that go because the extension comes from source. Raises InvalidOption."""
        names = [f"php{version}-{EXTENSION}" for version in self.versions]
        names = [name for name in names if name in self.installed]
        going = set(packages.removed_with(self.host.run, names)) if names else set()
        # The metapackage goes with the one that it stands for.
        others = sorted(going - {*names, f"php-{EXTENSION}"})
        if others:
            raise InvalidOption(
                "method",
                "source",
                f"removes {' '.join(names)}, which {' '.join(others)} needs",
                f"Remove {' '.join(others)} first, or stay with method: 'package'",
            )
        return sorted({*names, *going})

    def _remove(self, names, why):
        # They would have PHP-FPM restarted, where a reload does.
        with packages.services_left_alone():
            packages.remove(self.host.run, names, why)

    # --- building -----------------------------------------------------------------------------

    def _plans(self):
        """Return {PHP version: _Plan}. Raises InvalidOption for what is not available or does not fit."""
        libgearman = source.libgearman(self.installed)
        plans = {}
        for version in self.versions:
            fitting = releases.choose(
                version, libgearman, self.request.version, tarball.candidates(self.request)
            )
            locations = tarball.check_path(self.request, tarball.locations(self.request, fitting))
            made_for = current = None
            if f"php{version}-cli" in self.installed:
                made_for = source.build_id(self.host, version, fitting, libgearman)
                current = source.is_current(
                    self.host, version, made_for, locations, self.request.run_tests
                )
            plans[version] = _Plan(fitting, locations, made_for, bool(current))
        return plans

    def _build(self, plans, afterwards):
        """Build, test and try the extension for each PHP version of *plans*; return {version: Built}."""
        for version, plan in plans.items():
            tested = " and test" if self.request.run_tests else ""
            self.actions.append(
                f"build{tested} {EXTENSION} {plan.release.version} for PHP {version}"
            )
        if self.check_mode or not plans:
            return {}
        workshop = afterwards.enter_context(build.Workshop(self.host))
        tarballs = {
            plan.release: tarball.fetch(self.host, plan.release, plan.locations, workshop.directory)
            for plan in plans.values()
        }
        built = {}
        for version, plan in plans.items():
            content = tarballs[plan.release]
            directory = workshop.build(version, plan.release, content)
            tests = None
            if self.request.run_tests:
                tests = workshop.test(version, plan.release, directory)
            extension = build.content(directory)
            for sapi in self.versions[version]:
                workshop.prove(version, sapi, extension)
            built[version] = source.Built(plan.made_for, content, extension, tests)
        source.keep_libgearman(self.host, self.installed)
        return built

    def _inis_written(self, versions):
        """Return a context in which each version's ini file is there; it puts them back on an error."""
        for version in versions:
            place = source.paths(self.host, version)
            self.inis.want(place.ini, source.ini_text(place.extension))
        self.actions += [f"write {path}" for path in self.inis.paths()]
        nothing = self.check_mode or not self.inis.changed
        return contextlib.nullcontext() if nothing else self.inis.applied()

    def _enable_built(self, version, new, undo):
        for sapi in new:
            arguments = (version, sapi, source.MODULE)
            action = f"enable {EXTENSION} for PHP {version} {sapi}"
            self._do(action, sapis.switch, self.host, "phpenmod", *arguments)
            if not self.check_mode:
                undo.callback(sapis.switch, self.host, "phpdismod", *arguments)

    def _forget(self, version):
        self.inis.want(source.paths(self.host, version).ini, None)
        action = f"remove {EXTENSION} that was built for PHP {version}"
        self._do(action, source.forget, self.host, version)

    # --- SAPIs --------------------------------------------------------------------------------

    def _not_enabled(self, version, module):
        return [
            sapi
            for sapi in self.versions[version]
            if not sapis.enabled(self.host, version, sapi, module)
        ]

    def _prove(self, version, changes):
        """Load the extension as each SAPI does. In check mode that proves nothing once it would change."""
        if self.check_mode and changes:
            return
        for sapi in self.versions[version]:
            self.loaded[version] = sapis.prove(self.host, version, sapi)

    def _update_daemons(self, version, its_sapis, changes, present=True):
        """Have what runs PHP and stays load the extension that is there now."""
        for sapi in its_sapis:
            daemon = sapis.daemon(self.host, version, sapi)
            if daemon is None or sapis.loaded(self.host, daemon) is None:
                continue
            extensions = {self._extension(version)} if present else set()
            outdated = sapis.is_outdated(self.host, daemon, extensions)
            if outdated or (self.check_mode and changes):
                action = f"reload {daemon.service}"
                self._do(action, sapis.bring_up_to_date, self.host, daemon, extensions)

    def _extension(self, version):
        """Return the file that a SAPI of the version loads the extension from."""
        if self.request.method == "source":
            return source.paths(self.host, version).extension
        return os.path.join(sapis.extension_directory(self.host, version), f"{EXTENSION}.so")
