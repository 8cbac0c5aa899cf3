# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that a package brings, by the commands that steer it."""

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.packaged import (
    Packaged,
    VerbFailed,
)


@pytest.fixture
def told():
    return []


def service(told, root, systemd, answer=(0, "", "")):
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)

    def run(argv):
        told.append(" ".join(argv))
        return answer

    return Packaged("mariadb", Host(run, root=str(root)))


@pytest.mark.parametrize("systemd", [True, False])
def test_verbs(told, tmp_path, systemd):
    mariadb = service(told, tmp_path, systemd)
    mariadb.prepare()
    mariadb.start()
    mariadb.restart()
    mariadb.reload()
    # An init script is enabled by its package.
    enabled = ["systemctl enable --quiet mariadb"] if systemd else []
    assert told == [
        *enabled,
        "service mariadb start",
        "service mariadb restart",
        "service mariadb reload",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [((1, "out", ""), "out"), ((3, "out", "err\n"), "err"), ((1, "", ""), "it printed nothing")],
)
def test_what_fails_says_why(told, tmp_path, answer, reason):
    with pytest.raises(VerbFailed, match=f"'service mariadb start' failed: {reason}") as failed:
        service(told, tmp_path, True, answer).start()
    assert failed.value.reason == reason
