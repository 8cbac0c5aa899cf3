# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord gives a process up; the listener does not."""

import json
import os
import stat

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.scripts import (
    retry_fatal,
)

BROKEN = {"startretries": 0, "autorestart": True, "startsecs": 1}


@pytest.fixture
def listening(daemon):
    """A supervisord with the listener, which waits a second."""
    script = daemon.directory / "retry_fatal.py"
    with open(retry_fatal.__file__) as source:
        script.write_text(source.read())
    daemon.converge(
        {},
        fleet="listener",
        event_listeners={
            "retry-fatal": {
                "command": f"{interpreter(daemon)} {script} 1 {daemon.directory}/states.json",
                "events": ["PROCESS_STATE"],
                "stderr_logfile": str(daemon.directory / "retry.log"),
            }
        },
    )
    yield daemon
    daemon.converge({}, fleet="listener", purge=True)


def interpreter(daemon):
    with open(daemon.where.supervisord) as script:
        return script.readline()[2:].strip()


def test_a_fatal_process_is_started_again(listening):
    """Its dependency comes up after supervisord gave it up."""
    there = listening.directory / "there"
    command = f"/bin/sh -c 'test -e {there} && exec sleep 60'"
    listening.converge({"needy": {**BROKEN, "command": command}}, wait=False)
    listening.wait_for(lambda: listening.states()["needy_00:needy_00"] == "FATAL")
    there.touch()
    listening.wait_for(lambda: listening.states()["needy_00:needy_00"] == "RUNNING")
    log = (listening.directory / "retry.log").read_text()
    assert "needy_00:needy_00 is FATAL; it is started again in 1 s" in log
    assert "needy_00:needy_00 is started again" in log


def test_a_process_that_was_removed_meanwhile_does_no_harm(listening):
    listening.converge({"gone": {**BROKEN, "command": "/bin/false"}}, wait=False)
    listening.wait_for(lambda: listening.states()["gone_00:gone_00"] == "FATAL")
    listening.converge({}, purge=True)
    log = listening.directory / "retry.log"
    listening.wait_for(lambda: "gone_00:gone_00 is not started again" in log.read_text())
    assert listening.states()["retry-fatal:retry-fatal"] == "RUNNING"


def test_one_that_ends_at_once_is_said_to_have_been_tried(listening):
    """For a process without a file descriptor left for its pipes that is always so."""
    listening.load(
        "x.conf", "[program:x]\ncommand=/bin/sleep 60\nautostart=false\nstartretries=0\n"
    )
    log = listening.directory / "retry.log"
    with listening.without_descriptors():
        listening.rpc.start_process("x:x")
        listening.wait_for(lambda: "x:x ended at once: SPAWN_ERROR" in log.read_text())
    assert "not started again" not in log.read_text()
    listening.wait_for(lambda: listening.states()["x:x"] == "RUNNING")


def test_the_states_of_all_processes_are_written_down(listening):
    path = listening.directory / "states.json"

    def states():
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        return {each["name"]: each for each in document["processes"]}

    listening.converge(
        {"good": {"command": "sleep 60"}, "bad": {**BROKEN, "command": "/bin/false"}}, wait=False
    )
    listening.wait_for(lambda: states().get("good_00", {}).get("state") == "RUNNING")
    listening.wait_for(lambda: len(states().get("bad_00", {}).get("failures", [])) > 1)
    assert states()["good_00"]["program"] == "good" and states()["good_00"]["failures"] == []
    assert "retry-fatal" in states(), "also those that were there before"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    listening.converge({"good": {"command": "sleep 60"}}, purge=True)
    assert states()["good_00"]["state"] == "RUNNING"
