# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.php_extension import sapis


@pytest.mark.parametrize(
    ("installed", "versions"),
    [
        ({}, []),
        ({"php-cli": "2:8.2+93"}, []),
        ({"php8.2-cli": "8.2.32-1"}, ["8.2"]),
        ({"php8.2-cgi": "8.2.32-1"}, ["8.2"]),
        ({"libapache2-mod-php8.4": "8.4.1-1", "php8.4-fpm": "8.4.1-1"}, ["8.4"]),
        ({"php8.10-cli": "8.10.1", "php8.9-cli": "8.9.1"}, ["8.9", "8.10"]),
        ({"php8.2-gearman": "2.1.0", "php8.2-common": "8.2.32-1", "php8.2-dev": "8.2.32"}, []),
    ],
)
def test_php_versions(installed, versions):
    assert sapis.php_versions(installed) == versions


def test_found():
    installed = {"php8.2-cgi": "1", "php8.2-cli": "1", "libapache2-mod-php8.4": "1"}
    assert sapis.found(installed, "8.2") == ["cli", "cgi"]
    assert sapis.found(installed, "8.4") == ["apache2"]


def test_the_two_modules_are_distinguished(tmp_path):
    host = sapis.Host(None, str(tmp_path))
    conf_d = tmp_path / "8.2/cli/conf.d"
    conf_d.mkdir(parents=True)
    (conf_d / "20-gearman-source.ini").symlink_to("/nowhere")
    assert sapis.enabled(host, "8.2", "cli", "gearman-source")
    assert not sapis.enabled(host, "8.2", "cli", "gearman")
    (conf_d / "20-gearman.ini").touch()
    assert sapis.enabled(host, "8.2", "cli", "gearman")
    assert sapis.enabled_sapis(host, "8.2", "gearman") == ["cli"]


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        ((0, "\n2.1.4", ""), "2.1.4"),
        ((0, "Warning: something else\n\n2.1.0", "PHP Warning: something else"), "2.1.0"),
    ],
)
def test_prove(answer, version):
    assert sapis.prove(sapis.Host(lambda *_a, **_k: answer), "8.2", "cli") == version


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0, "\n", "PHP Warning:  undefined symbol: x"), "undefined symbol: x"),
        ((0, "Warning: Unable to load\n", ""), "Unable to load"),
        ((139, "", ""), "printed nothing"),
        ((255, "\n2.1.4", "Fatal error"), "Fatal error"),
    ],
)
def test_proof_fails(answer, words):
    with pytest.raises(GearvisorError) as error:
        sapis.prove(sapis.Host(lambda *_a, **_k: answer), "8.2", "fpm")
    for word in ("php: '8.2'", "for fpm", words, "php8.2 --ri gearman"):
        assert word in str(error.value)


OURS = "/usr/local/lib/php/8.2/gearman.so"
DEBIANS = "/usr/lib/php/20220829/gearman.so"
FPM = "/usr/sbin/php-fpm8.2"
OTHERS = ["/usr/lib/x86_64-linux-gnu/libgearman.so.8.0.0", "/srv/my gearman.so.conf", "[stack]"]


class Machine:
    """A host whose PHP-FPM has the *files* loaded, or that has none (None)."""

    def __init__(self, tmp_path, files):
        self.maps = tmp_path / "proc/7/maps"
        self.maps.parent.mkdir(parents=True)
        (tmp_path / "run/php").mkdir(parents=True)
        self.pid_file = tmp_path / "run/php/php8.2-fpm.pid"
        self.calls = []
        self.after = {}
        self.host = sapis.Host(
            self.run, proc=str(tmp_path / "proc"), pid_files=str(tmp_path / "run")
        )
        self.daemon = sapis.daemon(self.host, "8.2", "fpm")
        self.load(files)

    def load(self, files):
        if files is None:
            self.pid_file.unlink(missing_ok=True)
            return
        self.pid_file.write_text("7\n")
        lines = (
            f"7f0{number}-7f1{number} r-xp 00000000 08:01 1234567      {path}\n"
            for number, path in enumerate([*files, *files, *OTHERS])
        )
        self.maps.write_text("".join(lines) + "7fff-7fff rw-p 00000000 00:00 0 \n")

    def run(self, argv, **_):
        call = " ".join(argv)
        self.calls.append(call)
        if call in self.after:
            self.load(self.after[call])
        return (
            (1, "", "wrong value")
            if call.endswith("--test") and "broken" in self.after
            else (0, "", "")
        )


@pytest.mark.parametrize(
    ("files", "wanted", "outdated"),
    [
        (None, {OURS}, False),
        ([], {OURS}, False),
        ([FPM, OURS], {OURS}, False),
        ([FPM], {OURS}, True),
        ([FPM, DEBIANS], {OURS}, True),
        ([FPM, DEBIANS + " (deleted)"], {OURS}, True),
        ([FPM, OURS + " (deleted)"], {OURS}, True),
        ([FPM + " (deleted)", OURS], {OURS}, True),
        ([FPM, OURS], set(), True),
        ([FPM], set(), False),
    ],
    ids=[
        "does not run",
        "the pid is another's",
        "as wanted",
        "without",
        "the package's",
        "the package's, removed",
        "replaced",
        "PHP was upgraded",
        "removed",
        "without, as wanted",
    ],
)
def test_is_outdated(tmp_path, files, wanted, outdated):
    machine = Machine(tmp_path, files)
    assert sapis.is_outdated(machine.host, machine.daemon, wanted) is outdated


def test_a_pid_file_without_its_process(tmp_path):
    machine = Machine(tmp_path, [FPM])
    machine.pid_file.write_text("8\n")
    assert sapis.loaded(machine.host, machine.daemon) is None
    machine.pid_file.write_text("")
    assert sapis.loaded(machine.host, machine.daemon) is None


def test_an_apache_without_php_is_none_of_ours(tmp_path):
    machine = Machine(tmp_path, None)
    (tmp_path / "run/apache2").mkdir()
    (tmp_path / "run/apache2/apache2.pid").write_text("7")
    machine.maps.write_text("7f-8f r-xp 0 08:01 1 /usr/sbin/apache2\n")
    daemon = sapis.daemon(machine.host, "8.2", "apache2")
    assert sapis.loaded(machine.host, daemon) is None
    assert not sapis.is_outdated(machine.host, daemon, {OURS})


CHECK, RELOAD, RESTART = (
    f"{FPM} --test",
    "service php8.2-fpm reload",
    "service php8.2-fpm restart",
)


def bring_up_to_date(machine, monkeypatch):
    monkeypatch.setattr(sapis, "_RELOAD_SECONDS", 0.2)
    sapis.bring_up_to_date(machine.host, machine.daemon, {OURS})


def test_a_reload_is_enough(tmp_path, monkeypatch):
    machine = Machine(tmp_path, [FPM, DEBIANS])
    machine.after = {RELOAD: [FPM, OURS]}
    bring_up_to_date(machine, monkeypatch)
    assert machine.calls == [CHECK, RELOAD]


@pytest.mark.parametrize("after_reload", [[FPM, DEBIANS], None], ids=["unchanged", "gone"])
def test_a_restart_where_a_reload_does_not_do(tmp_path, monkeypatch, after_reload):
    machine = Machine(tmp_path, [FPM, DEBIANS])
    machine.after = {RELOAD: after_reload, RESTART: [FPM, OURS]}
    bring_up_to_date(machine, monkeypatch)
    assert machine.calls == [CHECK, RELOAD, RESTART]


def test_nothing_helps(tmp_path, monkeypatch):
    machine = Machine(tmp_path, [FPM, DEBIANS])
    with pytest.raises(GearvisorError, match="does not load the extension gearman"):
        bring_up_to_date(machine, monkeypatch)


def test_a_configuration_that_would_end_it_is_not_reloaded(tmp_path, monkeypatch):
    machine = Machine(tmp_path, [FPM, DEBIANS])
    machine.after = {"broken": None}
    with pytest.raises(GearvisorError, match=r"wrong value.*php-fpm8\.2 --test"):
        bring_up_to_date(machine, monkeypatch)
    assert machine.calls == [CHECK]
