# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to releases are moved with the rights of their directory's owner."""

import os

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import release

DEPLOY = 65534


def link(path):
    return release.Link(str(path), None, "/srv/releases/2", "last")


def test_a_link_is_made_and_taken_back(tmp_path):
    release.move_all([link(tmp_path / "current")])
    assert os.readlink(tmp_path / "current") == "/srv/releases/2"
    release.move_all([link(tmp_path / "current")], back=True)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_a_directory_of_roots_that_another_user_leads_to_is_left_alone(tmp_path):
    (tmp_path / "cron.d").mkdir()
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/app").symlink_to(tmp_path / "cron.d")
    os.chown(tmp_path / "srv", DEPLOY, DEPLOY)
    with pytest.raises(GearvisorError, match=r"cannot be moved: .*it is root's"):
        release.move_all([link(tmp_path / "srv/app/current")])
    assert os.listdir(tmp_path / "cron.d") == []
    release.move_all([link(tmp_path / "srv/app/current")], ["nobody"])
    assert os.listdir(tmp_path / "cron.d") == ["current"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_a_directory_of_another_user_gets_a_link_of_that_user(tmp_path):
    (tmp_path / "app").mkdir()
    os.chown(tmp_path / "app", DEPLOY, DEPLOY)
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(0o711)
    release.move_all([link(tmp_path / "app/current")])
    assert os.lstat(tmp_path / "app/current").st_uid == DEPLOY
