# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.options import (
    typed_program,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.warnings import (
    cautions,
)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stopsignal": "SIGKILL"}, ["stopsignal: KILL", "TERM"]),
        ({"stopsignal": 9}, ["stopsignal: KILL", "TERM"]),
        ({"stopwaitsecs": 0}, ["stopwaitsecs: 0", "longest job"]),
        ({"stopasgroup": True}, ["stopasgroup", "killasgroup"]),
        ({"command": "php x.php > /dev/null"}, ["programs.mail.command", "stdout_logfile"]),
        ({"command": "npm run w"}, ["npm", "stopasgroup: true", "killasgroup: true"]),
        ({"command": "npm run w", "killasgroup": True}, ["npm", "stopasgroup: true"]),
        ({"startsecs": 0, "autorestart": True}, ["startsecs: 0", "startsecs: 1"]),
        ({"startretries": 0, "autorestart": True}, ["startretries: 0", "3 or more"]),
    ],
)
def test_costly_combinations_are_worth_a_warning(given, words):
    (text,) = cautions("programs.mail", typed_program("mail", {"command": "/bin/x", **given}))
    for word in ["programs.mail", *words]:
        assert word in text


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"autorestart": True},
        {"startsecs": 0},
        {"startretries": 0},
        {"command": "npm run w", "stopasgroup": True},
        {"killasgroup": True, "stopwaitsecs": 300, "stopsignal": "INT"},
    ],
)
def test_nothing_to_say(given):
    assert cautions("programs.mail", typed_program("mail", {"command": "/bin/x", **given})) == []


def test_a_warning_comes_with_the_change_and_not_again(daemon):
    program = {"command": "/bin/sleep 60", "stopwaitsecs": 0}
    assert any("stopwaitsecs: 0" in text for text in daemon.converge({"a": program})["warnings"])
    assert daemon.converge({"a": program})["warnings"] == []
