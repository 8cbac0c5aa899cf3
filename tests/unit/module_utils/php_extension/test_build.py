# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import os
import pathlib
import pwd

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import (
    build,
    releases,
    sapis,
)
from test_archive import PACKAGE_XML, tarball

RELEASE = releases.RELEASES[-1]
TARBALL = tarball(("package.xml", PACKAGE_XML), "gearman-2.1.4/config.m4")
# What run-tests.php of PHP 8.2 prints, colours and all.
PASSED = """\
TEST 1/2 [tests/gearman_001.phpt]\r\x1b[1;32mPASS\x1b[0m Check for gearman  presence [tests/gearman_001.phpt] 
TEST 2/2 [tests/gearman_002.phpt]\r\x1b[1;32mPASS\x1b[0m gearman_worker_set_id() [tests/gearman_002.phpt] 
=====================================================================
Number of tests :    65                65
Tests skipped   :     0 (  0.0%) --------
Tests warned    :     0 (  0.0%) (  0.0%)
Tests failed    :     0 (  0.0%) (  0.0%)
Tests passed    :    65 (100.0%) (100.0%)
---------------------------------------------------------------------
Time taken      :     9 seconds
=====================================================================
"""  # noqa: W291
FAILED = """\
TEST 1/2 [tests/gearman_001.phpt]\r\x1b[1;32mPASS\x1b[0m Check for gearman  presence [tests/gearman_001.phpt] 
TEST 2/2 [tests/gearman_002.phpt]\r\x1b[1;31mFAIL\x1b[0m gearman_worker_set_id() [tests/gearman_002.phpt] 
=====================================================================
Number of tests :    2                 2
Tests skipped   :    0 (  0.0%) --------
Tests warned    :    0 (  0.0%) (  0.0%)
Tests failed    :    1 ( 50.0%) ( 50.0%)
Tests passed    :    1 ( 50.0%) ( 50.0%)
---------------------------------------------------------------------
Time taken      :    0 seconds
=====================================================================

=====================================================================
FAILED TEST SUMMARY
---------------------------------------------------------------------
gearman_worker_set_id() [tests/gearman_002.phpt]
=====================================================================
make: *** [Makefile:136: test] Error 1
"""  # noqa: W291


class Machine:
    """*answers*: by a word of the command, the (return code, stdout, stderr) that it gives."""

    def __init__(self, tmp_path, answers=None):
        self.answers = answers or {}
        self.calls = []
        (tmp_path / "scratch").mkdir()
        self.host = sapis.Host(
            self.run, etc=str(tmp_path / "etc"), scratch=str(tmp_path / "scratch")
        )

    def run(self, argv, **_):
        self.calls.append(argv)
        for word, answer in self.answers.items():
            if word in argv:
                return answer
        return 0, "", ""


def commands(machine):
    """Return what was run as the unprivileged user, without what makes it so."""
    return [
        " ".join(argv[argv.index("timeout") + 3 :]) for argv in machine.calls if "timeout" in argv
    ]


def test_build(tmp_path):
    machine = Machine(tmp_path)
    with build.Workshop(machine.host) as workshop:
        directory = workshop.build("8.2", RELEASE, TARBALL)
        assert os.stat(directory).st_uid == os.stat(directory + "/config.m4").st_uid != 0
        assert os.stat(workshop.directory).st_uid == 0
    phpize, configure, make = commands(machine)
    assert phpize == "/usr/bin/phpize8.2"
    assert configure.startswith("./configure --with-gearman=/usr ")
    assert "--with-php-config=/usr/bin/php-config8.2" in configure
    assert make.startswith("make --jobs=")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_builds_is_nobody_and_inherits_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_ROOT", "x")
    machine = Machine(tmp_path)
    with build.Workshop(machine.host) as workshop:
        workshop.build("8.2", RELEASE, TARBALL)
    for argv in machine.calls:
        assert argv[0] == "setpriv"
        assert {"--clear-groups", "--no-new-privs"} < set(argv)
        uid = int(next(one for one in argv if one.startswith("--reuid=")).partition("=")[2])
        assert uid not in {entry.pw_uid for entry in pwd.getpwall()}
        assert "env" not in argv or "--unset=SECRET_OF_ROOT" in argv


@pytest.mark.parametrize(
    ("word", "output", "words"),
    [
        (
            "./configure",
            (1, "checking for gcc... no\n", "configure: error: no acceptable C compiler found\n"),
            ["configure failed", "no acceptable C compiler"],
        ),
        (
            "./configure",
            (1, "", "configure: error: libgearman version 1.1.0 or later required\n"),
            ["libgearman version 1.1.0 or later required"],
        ),
        (
            "make",
            (2, "", "a.c:1:2: error: x undeclared\nmake: *** [a.lo] Error 1\n"),
            ["make failed", "x undeclared"],
        ),
        ("/usr/bin/phpize8.2", (127, "", "timeout: failed to run command"), ["phpize8.2 failed"]),
    ],
)
def test_a_build_that_fails_shows_why(tmp_path, word, output, words):
    machine = Machine(tmp_path, {word: output})
    with pytest.raises(GearvisorError) as error, build.Workshop(machine.host) as workshop:
        workshop.build("8.2", RELEASE, TARBALL)
    for one in ("gearman 2.1.4 for PHP 8.2", "not touched", *words):
        assert one in str(error.value)
    assert error.value.details["output"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_broken_tarball(tmp_path):
    machine = Machine(tmp_path)
    words = r"cannot use the tarball of gearman 2\.1\.4.*broken"
    with pytest.raises(GearvisorError, match=words), build.Workshop(machine.host) as workshop:
        workshop.build("8.2", RELEASE, TARBALL[:50])
    assert commands(machine) == []


def test_the_tarball_of_another_release(tmp_path):
    machine = Machine(tmp_path)
    words = r"'2\.1\.3' is not what the tarball holds, which is 2\.1\.4"
    with pytest.raises(InvalidOption, match=words), build.Workshop(machine.host) as workshop:
        workshop.build("8.2", releases.Release("2.1.3"), TARBALL)
    assert commands(machine) == []


def test_the_result_is_no_link(tmp_path):
    path = tmp_path / "modules/gearman.so"
    path.parent.mkdir()
    path.write_bytes(b"extension")
    assert build.content(str(tmp_path)) == b"extension"
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        build.content(str(tmp_path))
    path.unlink()
    os.mkfifo(path)
    assert build.content(str(tmp_path)) == b""


@pytest.mark.parametrize(
    ("output", "counts", "failed"),
    [
        (PASSED, {"passed": 65, "failed": 0, "skipped": 0}, []),
        (FAILED, {"passed": 1, "failed": 1, "skipped": 0}, ["tests/gearman_002.phpt"]),
        ("gearmand does not answer:\n", {}, []),
    ],
)
def test_parse_tests(output, counts, failed):
    assert build.parse_tests(output) == (counts, failed)


@pytest.mark.parametrize("root_may", [True, False])
def test_tests_run_without_the_hosts_network_and_as_nobody(tmp_path, root_may):
    machine = Machine(tmp_path, {"true": (0 if root_may else 1, "", ""), "--fork": (0, PASSED, "")})
    with build.Workshop(machine.host) as workshop:
        counts = workshop.test("8.2", RELEASE, str(tmp_path))
    assert counts == {"passed": 65, "failed": 0, "skipped": 0}
    argv = machine.calls[1]
    assert {"unshare", "--net", "--kill-child", "setpriv"} < set(argv)
    # Where root may not, the user unshares by itself.
    assert (argv.index("unshare") < argv.index("setpriv")) is root_may
    assert ("--user" in argv) is not root_may


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((2, FAILED, ""), "fails its own tests on PHP 8.2: tests/gearman_002.phpt"),
        ((0, FAILED, ""), "tests/gearman_002.phpt"),
        ((1, "gearmand does not answer: port in use\n", ""), "gearmand does not answer"),
        ((0, "no tests here\n", ""), "no tests here"),
        ((1, "", "unshare: unshare failed: Operation not permitted"), "network namespace"),
    ],
)
def test_tests_that_fail(tmp_path, answer, words):
    machine = Machine(tmp_path, {"--fork": answer})
    with pytest.raises(GearvisorError) as error, build.Workshop(machine.host) as workshop:
        workshop.test("8.2", RELEASE, str(tmp_path))
    assert words in str(error.value)


def test_the_proof_takes_the_place_of_what_is_loaded_now(tmp_path):
    conf_d = tmp_path / "etc/8.2/cli/conf.d"
    conf_d.mkdir(parents=True)
    for name in ("10-opcache.ini", "20-gearman.ini", "20-gearman-source.ini", "20-posix.ini"):
        (conf_d / name).touch()
    seen = {}

    def run(argv, environ_update=None, **_):
        if "timeout" not in argv:
            return 0, "", ""
        directory = pathlib.Path(environ_update["PHP_INI_SCAN_DIR"])
        seen.update({path.name: path.read_text() for path in directory.glob("*.ini")})
        seen["loaded"] = (directory / "gearman.so").read_bytes()
        return 0, "\n2.1.4", ""

    machine = Machine(tmp_path)
    with build.Workshop(machine.host._replace(run=run)) as workshop:
        assert workshop.prove("8.2", "cli", b"extension") == "2.1.4"
    assert seen.pop("loaded") == b"extension"
    assert set(seen) == {"10-opcache.ini", "20-posix.ini", "20-gearman-source.ini"}
    assert "extension=" in seen["20-gearman-source.ini"]
