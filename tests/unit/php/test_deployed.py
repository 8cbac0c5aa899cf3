# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role gearman_php puts on a host, and what Composer would load, is all that PHP needs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from php_harness import PHP_FOLDER, PhpWorker, run_php, wait_until

ROOT = PHP_FOLDER.parent
PLAY = [
    {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"role_path": str(ROOT / "roles/gearman_php")},
        "vars_files": [str(ROOT / "roles/gearman_php/vars/main.yml")],
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": "{{ __gearman_php_files | to_json }}",
                    "dest": "{{ destination }}",
                    "mode": "0644",
                }
            }
        ],
    }
]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A folder with the files of the role's variable, as the module writes them."""
    folder = tmp_path_factory.mktemp("deployed")
    play, files = folder / "play.yml", folder / "files.json"
    play.write_text(yaml.safe_dump(PLAY))
    done = subprocess.run(
        [
            pathlib.Path(sys.executable).with_name("ansible-playbook"),
            "--inventory=localhost,",
            f"--extra-vars=destination={files} ansible_python_interpreter={sys.executable}",
            play,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, text in json.loads(files.read_text()).items():
        path = folder / "php" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "php"


def test_the_role_deploys_what_git_has(deployed):
    wanted = {
        path.relative_to(PHP_FOLDER): path.read_text()
        for folder in (PHP_FOLDER, PHP_FOLDER / "src")
        for path in folder.glob("*.php")
    }
    found = {path.relative_to(deployed): path.read_text() for path in deployed.rglob("*.*")}
    assert found == wanted


def test_no_class_lies_deeper(deployed):
    """The role takes php/ and php/src/; examples are not deployed."""
    deeper = {path.parent.name for path in PHP_FOLDER.rglob("*.php")}
    assert deeper == {"php", "src", "examples"}


def test_the_deployed_worker_and_client(deployed, new_server, tmp_path, monkeypatch):
    server = new_server()
    monkeypatch.chdir("/")
    worker = PhpWorker(tmp_path / "log", [server], script=str(deployed / "worker.php"))
    try:
        server.wait_for_worker("worker-1")
        done = run_php(str(deployed / "client.php"), "--server", server.address, "reverse", "abc")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"cba", b"")
        worker.process.terminate()
        assert wait_until(lambda: worker.process.poll() is not None) and worker.log()
    finally:
        worker.stop()


@pytest.mark.parametrize("file", ["lib.php", "worker_lib.php", "autoload.php"])
def test_entry_points_of_the_library(deployed, file):
    code = (
        f"require '{deployed}/{file}'; "
        "echo implode(',', array_keys(Gearvisor\\servers(['a', 'b:1'], ''))), "
        "(new Gearvisor\\Limits(jobs: 1))->reached(1, 0, 0);"
    )
    assert run_php("-r", code).stdout == b"a:4730,b:1max-jobs 1"


@pytest.mark.parametrize("program", ["worker.php", "client.php"])
def test_version(deployed, program):
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert run_php(str(deployed / program), "--version").stdout.decode() == f"{program} {version}\n"


def test_composer_loads_the_same():
    composer = json.loads((PHP_FOLDER / "composer.json").read_text())["autoload"]
    assert composer["psr-4"] == {"Gearvisor\\": "src/"}
    functions = {
        f"src/{path.name}" for path in (PHP_FOLDER / "src").glob("*.php") if path.name[0].islower()
    }
    assert set(composer["files"]) == functions


def test_one_class_a_file():
    for path in (PHP_FOLDER / "src").glob("[A-Z]*.php"):
        kinds = ("final class ", "enum ", "interface ")
        lines = [line for line in path.read_text().splitlines() if line.startswith(kinds)]
        assert [line.split("class ")[1].split()[0] for line in lines] == [path.stem], path
