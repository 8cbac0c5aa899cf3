# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import os

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import (
    build,
    extension,
    sapis,
    source,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension.request import (
    Request,
    check_request,
)
from test_build import TARBALL


@pytest.mark.parametrize(
    ("request_", "versions", "wanted"),
    [
        (Request(), {}, {"php-gearman": None, "php-cli": None}),
        (
            Request(sapis=("fpm", "apache2")),
            {},
            {"php-gearman": None, "php-cli": None, "php-fpm": None, "libapache2-mod-php": None},
        ),
        (
            Request(version="2.1.*"),
            {"8.2": ("cli",)},
            {"php8.2-gearman": "2.1.*", "php8.2-cli": None},
        ),
        (
            Request(),
            {"8.2": ("apache2",), "8.4": ("apache2", "cgi")},
            {
                "php8.2-gearman": None,
                "php8.2-cli": None,
                "libapache2-mod-php8.2": None,
                "php8.4-gearman": None,
                "php8.4-cli": None,
                "libapache2-mod-php8.4": None,
                "php8.4-cgi": None,
            },
        ),
        (
            Request(method="source", version="2.1.4", sapis=("fpm",)),
            {},
            {"php-cli": None, "php-fpm": None},
        ),
        (
            Request(method="source", version="2.1.4"),
            {"8.2": ("fpm",)},
            {"php8.2-cli": None, "php8.2-fpm": None},
        ),
    ],
    ids=[
        "nothing installed",
        "nothing installed, web SAPIs",
        "pinned",
        "two versions",
        "from source, nothing installed",
        "from source",
    ],
)
def test_wanted_packages(request_, versions, wanted):
    assert extension.wanted_packages(request_, versions) == wanted


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(php=("8",)), ["php", "'8'", "8.2"]),
        (Request(php=("8.2; rm",)), ["php", "'8.2; rm'", "8.2"]),
        (Request(sapis=("embed",)), ["sapis", "'embed'", "fpm"]),
        (Request(run_tests=True), ["run_tests", "True", "method: 'source'"]),
    ],
)
def test_bad_input_names_option_value_and_way_out(request_, words):
    with pytest.raises(InvalidOption) as error:
        check_request(request_)
    for word in words:
        assert word in str(error.value)


def converge(*arguments, **options):
    """Return the module's result."""
    return extension.converge(*arguments, **options).as_result()


class Machine:
    """A Debian host: packages, phpenmod's links, and what PHP reports, by the first words of commands."""

    def __init__(self, tmp_path, installed=(), answers=None):
        self.etc = tmp_path / "etc"
        self.installed = dict.fromkeys(installed, "1.1.20")
        self.answers = answers or {}
        self.calls = []
        (tmp_path / "src").mkdir()
        self.host = sapis.Host(
            self.run,
            etc=str(self.etc),
            notes=str(tmp_path / "notes"),
            built=str(tmp_path / "built"),
            scratch=str(tmp_path / "src"),
            proc=str(tmp_path / "proc"),
            pid_files=str(tmp_path / "run"),
            journal=str(tmp_path / "journal"),
        )
        for version in sapis.php_versions(self.installed):
            (self.etc / version / "mods-available").mkdir(parents=True)
            for sapi in sapis.found(self.installed, version):
                (self.etc / version / sapi / "conf.d").mkdir(parents=True)

    def run(self, argv, environ_update=None, **_):
        line = " ".join([*argv, *(environ_update if "timeout" in argv else ())])
        self.calls.append(line)
        for words, answer in self.answers.items():
            if words in line:
                return answer
        return getattr(self, "_" + argv[0].rpartition("/")[2].replace("-", "_"), self._other)(argv)

    def _dpkg_query(self, _argv):
        return 0, "".join(f"ii  {name} {one}\n" for name, one in self.installed.items()), ""

    def _apt_get(self, argv):
        words = [word for word in argv[1:] if not word.startswith("-")]
        if words[0] == "remove":
            going = {name for name in self.installed if name in words}
            if "php8.2-gearman" in going:
                going |= {"php-gearman", *getattr(self, "needs_it", ())} & set(self.installed)
            if "--simulate" not in argv:
                for name in going:
                    del self.installed[name]
                for link in self.etc.glob("*/*/conf.d/20-gearman.ini") if going else ():
                    link.unlink()
            return 0, "".join(f"Remv {name} [1]\n" for name in sorted(going)), ""
        if words[0] == "install":
            self.installed.update(dict.fromkeys(words[1:], "1"))
        return 0, "", ""

    def _phpenmod(self, argv, enable=True):
        _command, _v, version, _s, sapi, module = argv
        link = self.etc / version / sapi / f"conf.d/20-{module}.ini"
        link.parent.mkdir(parents=True, exist_ok=True)
        if enable:
            link.touch()
        else:
            link.unlink()
        return 0, "", ""

    def _phpdismod(self, argv):
        return self._phpenmod(argv, enable=False)

    def _setpriv(self, argv):
        if argv[-2] == "-r":
            return 0, "\n2.1.4", ""
        return 0, "", ""

    @staticmethod
    def _other(argv):
        if "-n" in argv and "PHP_EXTENSION_DIR" in argv[-1]:
            return 0, "/usr/lib/php/20220829", ""
        return 0, "\n2.1.4" if "/bin/php" in argv[0] else "", ""

    def enable(self, sapi="cli", module="gearman"):
        (self.etc / "8.2" / sapi / f"conf.d/20-{module}.ini").touch()

    def ran(self, words):
        return [call for call in self.calls if words in call]

    def state(self):
        """Return everything that may not change in check mode or by a failure."""
        files = [path for path in self.etc.parent.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files}, dict(self.installed)


PHP = ("php8.2-cli", "libgearman8")
PACKAGED = (*PHP, "php-gearman", "php8.2-gearman")
FROM_SOURCE = Request(method="source", checksum=source.sha256(TARBALL))


@pytest.fixture(autouse=True)
def tarball_of_debian(monkeypatch):
    monkeypatch.setattr(extension.tarball, "fetch", lambda *_: TARBALL)
    monkeypatch.setattr(build, "content", lambda _directory: b"extension")


def test_enabled_and_loading_is_no_change(tmp_path):
    machine = Machine(tmp_path, PACKAGED)
    machine.enable()
    result = converge(Request(), machine.host)
    assert (result["changed"], result["versions"]) == (False, {"8.2": "2.1.4"})
    assert [call.split()[0] for call in machine.calls] == ["dpkg-query", "/usr/bin/php8.2"]


def test_an_extension_that_does_not_load_is_not_enabled(tmp_path):
    failure = (0, "\n", "undefined symbol: x")
    machine = Machine(tmp_path, PACKAGED, {"extension=gearman.so": failure})
    with pytest.raises(GearvisorError, match=r"8\.2.*undefined symbol: x.*--ri gearman"):
        converge(Request(), machine.host)
    assert not machine.ran("phpenmod")


@pytest.mark.parametrize(
    ("request_", "actions"),
    [
        (Request(), ["install php-cli php-gearman"]),
        (FROM_SOURCE, ["install php-cli", "build gearman for the PHP that comes with it"]),
    ],
)
def test_check_mode_on_an_untouched_host(tmp_path, request_, actions):
    machine = Machine(tmp_path)
    result = converge(request_, machine.host, check_mode=True)
    assert result["actions"] == actions
    assert [call.split()[0] for call in machine.calls] == ["dpkg-query"]


def fpm_runs(tmp_path, *files):
    (tmp_path / "run/php").mkdir(parents=True)
    (tmp_path / "run/php/php8.2-fpm.pid").write_text("7")
    (tmp_path / "proc/7").mkdir(parents=True)
    lines = [f"7f-8f r-xp 0 08:01 1 {path}\n" for path in ("/usr/sbin/php-fpm8.2", *files)]
    (tmp_path / "proc/7/maps").write_text("".join(lines))


def test_fpm_is_notified_when_it_gets_the_extension(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sapis, "bring_up_to_date", lambda *arguments: told.append(arguments[1:]))
    machine = Machine(tmp_path, (*PACKAGED, "php8.2-fpm"))
    machine.enable("cli")
    fpm_runs(tmp_path)
    result = converge(Request(sapis=("cli", "fpm")), machine.host)
    assert result["actions"] == ["enable gearman for PHP 8.2 fpm", "reload php8.2-fpm"]
    ((daemon, extensions),) = told
    assert (daemon.service, extensions) == ("php8.2-fpm", {"/usr/lib/php/20220829/gearman.so"})


def test_fpm_is_left_alone_when_it_has_the_extension(tmp_path):
    machine = Machine(tmp_path, (*PACKAGED, "php8.2-fpm"))
    machine.enable("cli")
    machine.enable("fpm")
    fpm_runs(tmp_path, "/usr/lib/php/20220829/gearman.so")
    result = converge(Request(sapis=("cli", "fpm")), machine.host)
    assert not result["changed"]
    assert not machine.ran("service")


def test_fpm_is_started_when_it_was_not_there(tmp_path):
    machine = Machine(tmp_path, PACKAGED)
    machine.enable("cli")
    result = converge(Request(sapis=("cli", "fpm")), machine.host)
    assert "start php8.2-fpm" in result["actions"]
    assert machine.ran("service php8.2-fpm restart")


def test_no_sapis_means_those_that_are_there(tmp_path):
    machine = Machine(tmp_path, (*PACKAGED, "php8.2-cgi"))
    result = converge(Request(sapis=()), machine.host)
    assert result["sapis"] == ["cli", "cgi"]
    assert sapis.enabled(machine.host, "8.2", "cgi", "gearman")


# --- from source ------------------------------------------------------------------------------


def test_from_source(tmp_path):
    machine = Machine(tmp_path, PHP)
    result = converge(FROM_SOURCE, machine.host)
    ini = source.paths(machine.host, "8.2").ini
    assert result["actions"] == [
        "install gcc libc6-dev libgearman-dev make php8.2-dev",
        "build gearman 2.1.4 for PHP 8.2",
        f"write {ini}",
        "enable gearman for PHP 8.2 cli",
    ]
    assert result["versions"] == {"8.2": "2.1.4"}
    assert result["diff"][0]["before_header"] == ini
    assert machine.ran("apt-mark manual libgearman8")
    again = converge(FROM_SOURCE, machine.host)
    assert (again["changed"], again["versions"]) == (False, {"8.2": "2.1.4"})


def test_a_rerun_neither_installs_nor_builds(tmp_path):
    machine = Machine(tmp_path, PHP)
    converge(FROM_SOURCE, machine.host)
    del machine.installed["gcc"], machine.installed["php8.2-dev"]
    machine.calls.clear()
    assert not converge(FROM_SOURCE, machine.host)["changed"]
    assert [call.split()[0] for call in machine.calls] == ["dpkg-query"] + 2 * ["/usr/bin/php8.2"]


@pytest.mark.parametrize("name", ["libgearman8", "php", "release", "tests"])
def test_it_is_built_again_only_for_a_reason(tmp_path, name):
    machine = Machine(tmp_path, PHP)
    converge(FROM_SOURCE, machine.host)
    request_ = FROM_SOURCE
    if name == "libgearman8":
        machine.installed[name] = "1.1.21"
    elif name == "php":
        machine.answers["PHP_EXTENSION_DIR"] = (0, "/usr/lib/php/20230831", "")
    elif name == "release":
        request_ = Request(
            method="source", version="2.1.3", url=("http://a/b",), checksum="unverified"
        )
        with pytest.raises(InvalidOption, match="is not what the tarball holds"):
            converge(request_, machine.host)
        return
    else:
        request_ = FROM_SOURCE._replace(run_tests=True)
        passed = "Tests skipped   :     0 x\nTests failed    :     0 x\nTests passed    :    65 x\n"
        machine.answers["--kill-child"] = (0, passed, "")
    before = machine.state()
    checked = converge(request_, machine.host, check_mode=True)
    assert machine.state() == before
    result = converge(request_, machine.host)
    assert [action for action in checked["actions"] if action.startswith("build")]
    assert result["actions"] == checked["actions"]
    assert not converge(request_, machine.host)["changed"]


def test_a_borrowed_job_server_goes_again(tmp_path):
    machine = Machine(tmp_path, PHP)
    passed = "Tests failed    :     0 x\nTests passed    :    65 x\n"
    machine.answers["--kill-child"] = (0, passed, "")
    result = converge(FROM_SOURCE._replace(run_tests=True), machine.host)
    assert result["tests"] == {"8.2": {"passed": 65, "failed": 0}}
    assert "gearman-job-server" not in machine.installed
    machine.installed["gearman-job-server"] = "1"
    machine.installed["libgearman8"] = "1.1.21"
    converge(FROM_SOURCE._replace(run_tests=True), machine.host)
    assert "gearman-job-server" in machine.installed


def test_source_and_package_exclude_each_other(tmp_path):
    machine = Machine(tmp_path, (*PACKAGED, "php8.2-fpm"))
    machine.enable("cli")
    machine.enable("fpm")
    to_source = converge(FROM_SOURCE, machine.host)
    assert "remove php-gearman php8.2-gearman" in to_source["actions"]
    assert not {"php-gearman", "php8.2-gearman"} & set(machine.installed)
    # A SAPI that had the extension keeps it, named or not.
    assert sapis.enabled_sapis(machine.host, "8.2", "gearman-source") == ["cli", "fpm"]
    assert sapis.enabled_sapis(machine.host, "8.2", "gearman") == []
    to_package = converge(Request(), machine.host)
    assert "remove gearman that was built for PHP 8.2" in to_package["actions"]
    assert sapis.enabled_sapis(machine.host, "8.2", "gearman") == ["cli", "fpm"]
    assert sapis.enabled_sapis(machine.host, "8.2", "gearman-source") == []
    assert not source.is_installed(machine.host, "8.2")


def test_the_new_is_enabled_before_the_old_goes(tmp_path):
    machine = Machine(tmp_path, PACKAGED)
    machine.enable()
    converge(FROM_SOURCE, machine.host)
    steps = [call for call in machine.calls if "phpenmod" in call or "remove" in call]
    assert ["phpenmod" in step for step in steps if "--simulate" not in step] == [True, False]


def test_packages_that_need_the_package_are_not_taken_along(tmp_path):
    machine = Machine(tmp_path, (*PACKAGED, "icinga-gearman"))
    machine.needs_it = {"icinga-gearman"}
    before = machine.state()
    with pytest.raises(InvalidOption, match=r"method: 'source'.*icinga-gearman.*Remove icinga"):
        converge(FROM_SOURCE, machine.host)
    assert machine.state() == before


FAILURES = {
    "./configure": "no acceptable C compiler",
    "make --jobs": "undeclared",
    "PHP_INI_SCAN_DIR": "undefined symbol",
}


@pytest.mark.parametrize("words", FAILURES)
@pytest.mark.parametrize("before", ["package", "source"])
def test_a_build_that_fails_leaves_the_extension_in_use(tmp_path, words, before):
    machine = Machine(tmp_path, PACKAGED if before == "package" else PHP)
    if before == "package":
        machine.enable()
    else:
        converge(FROM_SOURCE, machine.host)
        machine.installed["libgearman8"] = "1.1.21"
    machine.installed.update(dict.fromkeys([*source.BUILD_PACKAGES, "php8.2-dev"], "1"))
    state = machine.state()
    machine.answers[words] = (1, "", FAILURES[words])
    with pytest.raises(GearvisorError, match=FAILURES[words]):
        converge(FROM_SOURCE, machine.host)
    assert machine.state() == state


@pytest.mark.parametrize("before", ["nothing", "source"])
def test_what_fails_after_the_swap_is_undone(tmp_path, before):
    machine = Machine(tmp_path, PHP)
    if before == "source":
        converge(FROM_SOURCE, machine.host)
        machine.installed["libgearman8"] = "1.1.21"
    machine.installed.update(dict.fromkeys([*source.BUILD_PACKAGES, "php8.2-dev"], "1"))
    state = machine.state()
    machine.answers["/usr/bin/php8.2 -c"] = (139, "", "Segmentation fault")
    with pytest.raises(GearvisorError, match="Segmentation fault"):
        converge(FROM_SOURCE, machine.host)
    assert machine.state() == state


def test_a_full_disk_is_reported_and_leaves_the_extension_in_use(tmp_path, monkeypatch):
    machine = Machine(tmp_path, PACKAGED)
    machine.enable()
    machine.installed.update(dict.fromkeys([*source.BUILD_PACKAGES, "php8.2-dev"], "1"))
    state = machine.state()

    def full(*_):
        raise OSError(28, "No space left on device", "/usr/local/src/x")

    monkeypatch.setattr(build.archive, "unpack", full)
    with pytest.raises(GearvisorError, match="No space left on device: /usr/local/src/x"):
        converge(FROM_SOURCE, machine.host)
    assert machine.state() == state


def test_a_release_that_does_not_fit_is_refused_before_anything_else(tmp_path):
    machine = Machine(tmp_path, PHP)
    before = machine.state()
    with pytest.raises(InvalidOption, match=r"PHP 5\.1 to 5\.6, not with 8\.2"):
        converge(FROM_SOURCE._replace(version="1.0.3"), machine.host)
    assert machine.state() == before


@pytest.mark.parametrize("method", ["package", "source"])
def test_absent_undoes_all_of_it(tmp_path, method):
    machine = Machine(tmp_path, PACKAGED if method == "package" else PHP)
    machine.enable() if method == "package" else converge(FROM_SOURCE, machine.host)
    absent = Request(state="absent")
    before = machine.state()
    checked = converge(absent, machine.host, check_mode=True)
    assert machine.state() == before
    result = converge(absent, machine.host)
    assert result["actions"] == checked["actions"] != []
    assert machine.state()[0] == {}
    assert not [name for name in machine.installed if "gearman" in name and "php" in name]
    assert not converge(absent, machine.host)["changed"]


def test_every_php_version_gets_what_fits_it(tmp_path):
    machine = Machine(tmp_path, (*PHP, "php8.4-cli", "php8.4-fpm"))
    result = converge(FROM_SOURCE._replace(sapis=()), machine.host)
    assert result["versions"] == {"8.2": "2.1.4", "8.4": "2.1.4"}
    assert sapis.enabled_sapis(machine.host, "8.2", "gearman-source") == ["cli"]
    assert sapis.enabled_sapis(machine.host, "8.4", "gearman-source") == ["cli", "fpm"]
    for version in ("8.2", "8.4"):
        assert machine.ran(f"/usr/bin/phpize{version}")
        assert machine.ran(f"--with-php-config=/usr/bin/php-config{version}")
    assert not converge(FROM_SOURCE._replace(sapis=()), machine.host)["changed"]


def test_only_the_php_versions_that_are_named(tmp_path):
    machine = Machine(tmp_path, (*PHP, "php8.4-cli"))
    converge(FROM_SOURCE._replace(php=("8.4",)), machine.host)
    assert source.versions(machine.host) == ["8.4"]
    converge(Request(state="absent", php=("8.2",)), machine.host)
    assert source.versions(machine.host) == ["8.4"]


# --- the worker's files -----------------------------------------------------------------------


def test_worker_files_are_written_once(tmp_path):
    machine = Machine(tmp_path, PACKAGED)
    machine.enable()
    where = machine.host
    request_ = Request(
        worker_directory=str(tmp_path / "php"), worker_files={"src/Worker.php": "<?php\n"}
    )
    path = str(tmp_path / "php/src/Worker.php")
    assert converge(request_, where, check_mode=True)["files"] == [path]
    assert not (tmp_path / "php").exists()
    first = converge(request_, where)
    assert (first["changed"], first["files"]) == (True, [path])
    assert (tmp_path / "php/src/Worker.php").read_text() == "<?php\n"
    assert not converge(request_, where)["changed"]


def test_files_of_version_0_1_0_go_and_those_of_others_stay(tmp_path):
    machine = Machine(tmp_path, PACKAGED)
    machine.enable()
    directory = tmp_path / "php"
    directory.mkdir()
    (directory / "functions.php").write_text("<?php\n\n// Copyright: Gearvisor contributors\n")
    (directory / "reports.php").write_text("<?php\n// ours, they said\n")
    request_ = Request(worker_directory=str(directory), worker_files={"worker.php": "<?php\n"})
    first = converge(request_, machine.host)
    assert first["files"] == [str(directory / "functions.php"), str(directory / "worker.php")]
    assert sorted(os.listdir(directory)) == ["reports.php", "worker.php"]
    assert not converge(request_, machine.host)["changed"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"worker_files": {"a.php": ""}}, ["worker_directory", "None", "/opt/gearvisor/php"]),
        *(
            (
                {"worker_directory": "/opt/x", "worker_files": {name: ""}},
                ["worker_files", f"'{name}'", "Leave out"],
            )
            for name in ("../a.php", "/a.php", "src/../../a.php", "src//a.php", "src/")
        ),
    ],
)
def test_bad_worker_files(tmp_path, fields, words):
    with pytest.raises(InvalidOption) as error:
        converge(Request(**fields), Machine(tmp_path).host)
    for word in words:
        assert word in str(error.value)
