# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/import-supervisor turns each recipe's file into its programs, and names what has no equivalent."""

import pathlib
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[3]
RECIPES = sorted((ROOT / "tests/recipes").iterdir())


def convert(*files):
    """Return (the text, its content as YAML)."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools/import-supervisor", *files],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, yaml.safe_load(done.stdout)["gearman_worker_programs"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipes_file_becomes_its_programs(recipe):
    text, programs = convert(recipe / "supervisor.conf")
    wanted = yaml.safe_load((recipe / "programs.yml").read_text())["gearman_worker_programs"]
    assert programs == wanted
    assert "TO DO" not in text


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (
            "laravel",
            ["stdout_logfile: /home/forge/shop.example/worker.log", "gearman_trusted_users"],
        ),
        ("laravel", ["shop-worker: stopasgroup: true"]),
        ("symfony", ["messenger-consume: startsecs: 0"]),
        (
            "celery",
            ["[group:celery]", "celery-high,celery-low,celery-beat", '"Groups" in docs/recipes.md'],
        ),
        ("node", ["'exec' was added"]),
        ("magento", ["memory_limit: Supervisor ignores it", "--max-rss"]),
        ("article", ["ran as root", "/var/www/logs/myprocess.log"]),
    ],
)
def test_what_was_changed_is_reported(recipe, told):
    text, _programs = convert(ROOT / "tests/recipes" / recipe / "supervisor.conf")
    for words in told:
        assert words in text


def test_several_files_and_other_sections(tmp_path):
    (tmp_path / "a.conf").write_text(
        "[program:a]\ncommand=/bin/a ; a comment\nuser=root\n"
        "[eventlistener:e]\ncommand=/bin/e\nevents=TICK_5\n[supervisord]\nminfds=4096\n[odd]\nx=1\n"
        "[unix_http_server]\nfile=/run/s.sock\nusername=u\npassword=s3cret\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=x\n"
    )
    (tmp_path / "b.conf").write_text(
        "[program:a]\ncommand=/bin/b\nuser=root\n[program:c d]\ncommand=cd /x && y\nuser=root\n"
    )
    text, programs = convert(tmp_path / "a.conf", tmp_path / "b.conf")
    assert programs[0] == {"name": "a", "command": "/bin/b", "user": "root"}
    for words in (
        "replaces the one before it",
        "[eventlistener:e]: list it in event_listeners",
        "[supervisord]: see the variables of the role supervisor",
        "[odd]: it has no equivalent",
        "[unix_http_server]: it stays in supervisord.conf, where the modules read the socket, its username",
        "[rpcinterface:supervisor]: it stays in supervisord.conf",
        "TO DO: programs: 'c d' is not a usable program name",
    ):
        assert words in text
    assert "s3cret" not in text


def test_a_file_without_programs_and_one_that_is_none(tmp_path):
    (tmp_path / "none.conf").write_text("[group:x]\nprograms=a\n")
    assert convert(tmp_path / "none.conf")[1] == []
    (tmp_path / "bad.conf").write_text("no section\n")
    for name in ("bad.conf", "not-there.conf"):
        done = subprocess.run(
            [sys.executable, ROOT / "tools/import-supervisor", tmp_path / name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert name in done.stderr
        assert "Traceback" not in done.stderr
