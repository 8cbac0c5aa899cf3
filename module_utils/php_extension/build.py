# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building the extension, testing it and trying it, as a user that owns nothing else on the host."""

from __future__ import annotations

import os
import pathlib
import re
import shutil

from ..failure import GearvisorError, InvalidOption
from ..host import temporary
from ..host.builder import Builder
from ..host.files import write_text
from . import archive, sapis, source

# In a separate network: the tests have this port built in, which a job server may have here.
_ISOLATED = ["unshare", "--net", "--pid", "--fork", "--kill-child"]
_LOOPBACK_UP = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
# PHP 8.4 leaves out tests that need a network unless --online is given; PHP 8.2 does not have that option.
_SUITE = """
gearmand --listen=localhost --port=4730 --threads=1 --pid-file="$PWD/gearmand.pid" \
    --log-file="$PWD/gearmand.log" &
for try in $(seq 100); do
    if "$1" -n -r 'exit(@fsockopen("localhost", 4730) ? 0 : 1);'; then
        export NO_INTERACTION=1 REPORT_EXIT_STATUS=1
        exec make test TESTS="$(grep --only-matching --max-count=1 -e --online run-tests.php)"
    fi
    sleep 0.1
done
echo "gearmand does not answer: $(cat gearmand.log)"
exit 1
"""


class Workshop:
    """A scratch directory, gone in the end, and the unprivileged user that works there."""

    def __init__(self, host):
        self._host = host
        self._builder = Builder(host.run)

    def __enter__(self):
        self._builder.__enter__()
        self.directory = temporary.make(self._host.scratch)
        os.chmod(self.directory, 0o755)
        return self

    def __exit__(self, *_):
        self._builder.end_processes()
        shutil.rmtree(self.directory, ignore_errors=True)

    def build(self, version, release, tarball):
        """Unpack and compile; return the directory of the source. Raises GearvisorError."""
        directory = self._make_directory(f"php{version}")
        try:
            directory = archive.unpack(tarball, directory)
        except GearvisorError as error:
            raise GearvisorError(
                f"method: 'source' cannot use the tarball of gearman {release.version}: {error}. "
                "The extension in use was not touched. Get the tarball from elsewhere"
            ) from error
        stated = archive.stated_version(directory)
        if stated not in (None, release.version):
            raise InvalidOption(
                "version",
                release.version,
                f"is not what the tarball holds, which is {stated}",
                f"Set version: '{stated}', or give the tarball of {release.version}",
            )
        for path, directories, files in os.walk(directory):
            self._builder.give(*(os.path.join(path, name) for name in ("", *directories, *files)))
        configure = [*source.CONFIGURE, f"--with-php-config=/usr/bin/php-config{version}"]
        make = ["make", f"--jobs={len(os.sched_getaffinity(0))}"]
        for command in ([f"/usr/bin/phpize{version}"], configure, make):
            rc, out, err = self._builder.run(command, cwd=directory)
            if rc != 0:
                raise GearvisorError(
                    f"method: 'source' could not build gearman {release.version} for PHP {version}: "
                    f"{os.path.basename(command[0])} failed: {_reason(out + err)}. "
                    "The extension in use was not touched",
                    output=(out + err).splitlines()[-60:],
                )
        return directory

    def test(self, version, release, directory):
        """Run the extension's own tests; return how many passed, and so on. Raises GearvisorError."""
        suite = ["sh", "-c", _SUITE, "sh", f"/usr/bin/php{version}"]
        namespaces = [*_ISOLATED, *_LOOPBACK_UP]
        if self._host.run(["unshare", "--net", "true"])[0] != 0:
            # In a container root may have less rights than anybody has in a user namespace.
            suite = [*_ISOLATED, "--user", "--map-root-user", *_LOOPBACK_UP, *suite]
            namespaces = []
        rc, out, err = self._builder.run(suite, cwd=directory, namespaces=namespaces)
        if "unshare failed" in err:
            raise GearvisorError(
                "run_tests: True needs a network namespace, which this host does not allow: "
                f"{err.strip()}. Test on another host, and leave run_tests out here"
            )
        counts, failed = parse_tests(out)
        if rc != 0 or failed or not counts.get("passed"):
            raise GearvisorError(
                f"run_tests: gearman {release.version} fails its own tests on PHP {version}: "
                f"{', '.join(failed) or _reason(out + err)}. The extension in use was not touched",
                output=(out + err).splitlines()[-60:],
            )
        return counts

    def prove(self, version, sapi, content):
        """Load the extension by a SAPI's own configuration, in place of what that loads now.

        Returns the extension's version. Raises GearvisorError when PHP does not load it.
        """
        directory = self._make_directory(f"proof-{version}-{sapi}")
        extension = os.path.join(directory, f"{sapis.EXTENSION}.so")
        pathlib.Path(extension).write_bytes(content)
        os.chmod(extension, 0o644)
        etc = os.path.join(self._host.etc, version, sapi)
        for path in sorted(pathlib.Path(etc, "conf.d").glob("*.ini")):
            if not re.fullmatch(rf"\d+-({sapis.EXTENSION}|{source.MODULE})\.ini", path.name):
                os.symlink(path, os.path.join(directory, path.name))
        ini = os.path.join(directory, f"20-{source.MODULE}.ini")
        write_text(ini, source.ini_text(extension), 0o644)
        argv = [f"/usr/bin/php{version}", "-c", etc, *sapis.PRINT_VERSION]
        rc, out, err = self._builder.run(argv, environment={"PHP_INI_SCAN_DIR": directory})
        return sapis.version_in(version, sapi, rc, out, err)

    def _make_directory(self, name):
        path = os.path.join(self.directory, name)
        os.mkdir(path)
        os.chmod(path, 0o755)
        return path


def content(directory):
    """Return the built extension's content: a file of the unprivileged user's, no link to another's."""
    path = os.path.join(directory, "modules", f"{sapis.EXTENSION}.so")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read()


def parse_tests(output):
    """Return ({"passed": number, ...}, [failed test]) of what PHP's run-tests.php prints."""
    counts = re.findall(r"^Tests (passed|failed|skipped)\s*:\s*(\d+)", output, re.MULTILINE)
    summary = r"^(?:FAILED|BORKED|LEAKED) TEST SUMMARY\n-+\n(.*?)^=="
    failed = "".join(re.findall(summary, output, re.MULTILINE | re.DOTALL))
    return (
        {name: int(number) for name, number in counts},
        re.findall(r"\[(\S+\.phpt)\]$", failed, re.MULTILINE),
    )


def _reason(output):
    """Return the lines in which configure, make or the compiler reports what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b|No space left", line, re.IGNORECASE)]
    return "; ".join((errors or lines)[-3:]) or "it gave no reason"
