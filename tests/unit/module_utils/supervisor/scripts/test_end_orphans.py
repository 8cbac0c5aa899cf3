# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord is killed; what it leaves is found, named, and ended after its job."""

import os
import signal

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.scripts import (
    end_orphans,
)

pytestmark = pytest.mark.supervisords("one")

# Finishes its job of a second before it leaves.
BUSY = {
    "command": "/bin/sh -c 'trap \"sleep 1; exit 0\" INT; while :; do sleep .1; done'",
    "stopsignal": "INT",
    "startsecs": 0,
}


def killed(idle):
    """Kill the supervisord of two running workers; return their pids."""
    idle.start()
    idle.converge({"busy": {**BUSY, "numprocs": 2}})
    pids = idle.pids()
    os.kill(idle._child.pid, signal.SIGKILL)
    idle._child.wait()
    idle._child = None
    return pids


def socket(idle):
    return str(idle.directory / "s.sock")


def test_orphans_are_found_named_and_finish_their_jobs(idle):
    pids = killed(idle)
    parser = end_orphans.configuration(str(idle.config))
    assert end_orphans.socket_of(parser) == socket(idle)
    found = end_orphans.find(socket=socket(idle))
    assert found == {pid: (name[:7], name[:7]) for name, pid in pids.items()}
    assert end_orphans.find(socket="/not/ours") == {}
    signals = end_orphans.stop_signals(parser)
    assert signals["busy_00"] == signal.SIGINT
    end_orphans.ask_to_leave(found, signals)
    assert end_orphans.wait(found, 0.2) == list(found)
    assert end_orphans.wait(found, 20) == []


def test_the_processes_of_a_supervisord_that_runs_are_none(daemon):
    wrapped = {"command": "/bin/bash -c 'set -m; sleep 60; true'", "startsecs": 0}
    daemon.converge({"busy": BUSY, "wrapped": wrapped})
    assert end_orphans.find(socket=socket(daemon)) == {}
    assert end_orphans.find(daemon.rpc.pid(), socket(daemon)) == {}


def test_the_next_run_ends_them(idle):
    """As on a host without systemd: a second set runs by then."""
    pids = killed(idle)
    idle.start()
    idle.wait_for(lambda: len(idle.pids()) == 2)
    program = {"busy": {**BUSY, "numprocs": 2}}
    (warning,) = [
        text
        for text in idle.converge(program, check_mode=True)["warnings"]
        if "former supervisord" in text
    ]
    assert all(str(pid) in warning for pid in pids.values())
    (warning,) = [text for text in idle.converge(program)["warnings"] if "former" in text]
    assert "busy_00" in warning
    assert "asked to leave" in warning
    assert end_orphans.wait(pids.values(), 20) == []
    assert not set(pids.values()) & set(idle.pids().values())
    assert not [text for text in idle.converge(program)["warnings"] if "former" in text]


def test_a_name_that_a_stranger_chose_is_shown_on_one_line():
    named = end_orphans.named({7: ("a", "mail\nFAKE \x1b[2J"), 8: ("a", "b" * 9999)})
    assert named.startswith("mail\\nFAKE \\x1b[2J (pid 7), bbb")
    assert len(named) < 200 and named.isprintable()
