# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Old releases are removed, and nothing that another user puts in their place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "roles/gearman_worker/files/remove_releases.py"
DEPLOY, OTHER = 12345, 12346

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives directories to other users")


def remove(directory, *names):
    done = subprocess.run(
        [sys.executable, SCRIPT, directory, *names], capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.fixture
def app(tmp_path):
    """An application of the user DEPLOY with two releases; in one, another user has written."""
    for name in ("app/releases/1/cache", "app/releases/2", "lib/data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "app/releases/1/cache/x").write_text("")
    (tmp_path / "app/releases/1/out").symlink_to(tmp_path / "lib")
    for name in ("app", "app/releases", "app/releases/1", "app/releases/2"):
        os.chown(tmp_path / name, DEPLOY, DEPLOY)
    os.chown(tmp_path / "app/releases/1/cache", OTHER, OTHER)
    return tmp_path / "app"


def test_releases_of_another_user_are_removed_and_links_in_them_not_followed(app):
    (app / "releases").chmod(0o2775)
    assert remove(app / "releases", "1") == (0, "")
    assert os.listdir(app / "releases") == ["2"]
    assert os.listdir(app.parent / "lib") == ["data"]


def test_what_root_has_deployed_is_removed(app):
    os.chown(app, 0, 0)
    os.chown(app / "releases", 0, 0)
    (app.parent / "link").symlink_to(app)
    assert remove(app.parent / "link/releases", "1") == (0, "")


def leads_to_roots(app):
    (app / "releases").rename(app / "aside")
    (app / "releases").symlink_to(app.parent / "lib")
    os.chown(app / "releases", DEPLOY, DEPLOY, follow_symlinks=False)


def belongs_to_a_third(app):
    os.chown(app, OTHER, OTHER)


def is_open(app):
    app.chmod(0o777)


@pytest.mark.parametrize("change", [leads_to_roots, belongs_to_a_third, is_open])
def test_nothing_is_removed_where_others_decide(app, change):
    change(app)
    name = os.listdir(app / "releases")[0]
    code, errors = remove(app / "releases", name)
    assert code != 0 and "are not removed" in errors and "deploy_keep" in errors
    assert (app / "releases" / name).is_dir()


@pytest.mark.parametrize("name", ["..", "1/cache", ""])
def test_only_names_in_it(app, name):
    assert remove(app / "releases", name)[0] != 0
