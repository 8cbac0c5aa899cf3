# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php import extension


@pytest.mark.parametrize(
    ("installed", "versions"),
    [
        ({}, []),
        ({"php-cli": "2:8.2+93"}, []),
        ({"php8.2-cli": "8.2.32-1"}, ["8.2"]),
        ({"libapache2-mod-php8.4": "8.4.1-1", "php8.4-fpm": "8.4.1-1"}, ["8.4"]),
        ({"php8.10-cli": "8.10.1", "php8.9-cli": "8.9.1"}, ["8.9", "8.10"]),
        ({"php8.2-gearman": "2.1.0", "php8.2-common": "8.2.32-1"}, []),
    ],
)
def test_php_versions(installed, versions):
    assert extension.php_versions(installed) == versions


@pytest.mark.parametrize(
    ("request_", "versions", "wanted"),
    [
        (extension.Request(), [], {"php-gearman": None, "php-cli": None}),
        (
            extension.Request(sapis=("fpm", "apache2")),
            [],
            {"php-gearman": None, "php-cli": None, "php-fpm": None, "libapache2-mod-php": None},
        ),
        (
            extension.Request(version="2.1.*"),
            ["8.2"],
            {"php8.2-gearman": "2.1.*", "php8.2-cli": None},
        ),
        (
            extension.Request(sapis=("apache2",)),
            ["8.2", "8.4"],
            {
                "php8.2-gearman": None,
                "php8.2-cli": None,
                "libapache2-mod-php8.2": None,
                "php8.4-gearman": None,
                "php8.4-cli": None,
                "libapache2-mod-php8.4": None,
            },
        ),
    ],
    ids=["nothing installed", "nothing installed, web SAPIs", "pinned", "two versions"],
)
def test_wanted_packages(request_, versions, wanted):
    assert extension.wanted_packages(request_, versions) == wanted


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (extension.Request(php=("8",)), ["php", "'8'", "8.2"]),
        (extension.Request(php=("8.2; rm",)), ["php", "'8.2; rm'", "8.2"]),
        (extension.Request(sapis=("cgi",)), ["sapis", "'cgi'", "fpm"]),
    ],
)
def test_bad_input_names_option_value_and_way_out(request_, words):
    with pytest.raises(InvalidOption) as error:
        extension.check_request(request_)
    for word in words:
        assert word in str(error.value)


class Recorder:
    """A run_command with answers by the first words of a command."""

    def __init__(self, answers):
        self.answers = answers
        self.calls = []

    def __call__(self, argv, environ_update=None, **_):
        line = " ".join(argv)
        self.calls.append(line)
        return next(
            (answer for start, answer in self.answers.items() if line.startswith(start)),
            (0, "", ""),
        )


PHP_82 = "ii  php8.2-cli 8.2.32-1\nii  php8.2-gearman 2.1.0-1\n"


def host(tmp_path, answers):
    run = Recorder(answers)
    return extension.Host(run, etc=str(tmp_path)), run


def enable(tmp_path, sapi="cli"):
    conf = tmp_path / "8.2" / sapi / "conf.d"
    conf.mkdir(parents=True)
    (conf / "20-gearman.ini").write_text("extension=gearman.so\n")


def test_enabled_and_loading_is_no_change(tmp_path):
    enable(tmp_path)
    where, run = host(
        tmp_path, {"dpkg-query": (0, PHP_82, ""), "/usr/bin/php8.2": (0, "2.1.0", "")}
    )
    result = extension.converge(extension.Request(), where)
    assert (result["changed"], result["versions"]) == (False, {"8.2": "2.1.0"})
    assert not [call for call in run.calls if "apt-get" in call or "phpenmod" in call]


def test_an_extension_that_does_not_load_is_not_enabled(tmp_path):
    where, run = host(
        tmp_path, {"dpkg-query": (0, PHP_82, ""), "/usr/bin/php8.2": (0, "", "undefined symbol: x")}
    )
    with pytest.raises(GearvisorError, match=r"8\.2.*undefined symbol: x.*--ri gearman"):
        extension.converge(extension.Request(), where)
    assert not [call for call in run.calls if "phpenmod" in call]


def test_check_mode_says_what_it_would_do_and_does_nothing(tmp_path):
    where, run = host(tmp_path, {"dpkg-query": (1, "", "no packages found")})
    result = extension.converge(extension.Request(), where, check_mode=True)
    assert result["actions"] == ["install php-cli php-gearman"]
    assert [call.split()[0] for call in run.calls] == ["dpkg-query"]


def test_fpm_is_reloaded_when_it_gets_the_extension(tmp_path):
    enable(tmp_path, "cli")
    where, run = host(
        tmp_path,
        {
            "dpkg-query": (0, PHP_82 + "ii  php8.2-fpm 8.2.32-1\n", ""),
            "/usr/bin/php8.2": (0, "2.1.0", ""),
        },
    )
    result = extension.converge(extension.Request(sapis=("cli", "fpm")), where)
    assert result["actions"] == ["enable gearman for PHP 8.2 fpm"]
    assert "/usr/sbin/phpenmod -v 8.2 -s fpm gearman" in run.calls
    assert "service php8.2-fpm reload" in run.calls


def test_worker_files_are_written_once(tmp_path):
    enable(tmp_path)
    where, _run = host(
        tmp_path, {"dpkg-query": (0, PHP_82, ""), "/usr/bin/php8.2": (0, "2.1.0", "")}
    )
    request_ = extension.Request(
        worker_directory=str(tmp_path / "php"), worker_files={"worker.php": "<?php\n"}
    )
    path = str(tmp_path / "php/worker.php")
    assert extension.converge(request_, where, check_mode=True)["files"] == [path]
    assert not (tmp_path / "php").exists()
    first = extension.converge(request_, where)
    assert (first["changed"], first["files"]) == (True, [path])
    assert (tmp_path / "php/worker.php").read_text() == "<?php\n"
    assert not extension.converge(request_, where)["changed"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"worker_files": {"a.php": ""}}, ["worker_directory", "None", "/opt/gearvisor/php"]),
        (
            {"worker_directory": "/opt/x", "worker_files": {"../a.php": ""}},
            ["worker_files", "'../a.php'", "Leave out"],
        ),
    ],
)
def test_bad_worker_files(tmp_path, fields, words):
    where, _run = host(tmp_path, {})
    with pytest.raises(InvalidOption) as error:
        extension.converge(extension.Request(**fields), where)
    for word in words:
        assert word in str(error.value)
