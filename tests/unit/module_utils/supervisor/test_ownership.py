"""What is a fleet's own, though its file is gone, and what is not, though it has the same name."""

from __future__ import annotations

import json
import os
import pathlib
import pwd

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    apply,
    fleet,
    leftovers,
    ownership,
    rollout,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.rpc import RUNNING

pytestmark = pytest.mark.supervisords("one")

WORKER = {"command": "/bin/sleep 60", "startsecs": 0, "autorestart": True}
HANDWRITTEN = """\
[program:laravel-worker]
command=/bin/sleep 60
process_name=%(program_name)s_%(process_num)02d
numprocs=3
startsecs=0
"""


def hs(numprocs=4):
    return {"hs": {**WORKER, "numprocs": numprocs}}


class Killed(BaseException):
    """What ends a run in the middle, without putting anything back."""


@pytest.mark.parametrize("purge", [False, True])
def test_a_rerun_ends_what_a_killed_run_was_to_end(daemon, monkeypatch, purge):
    """The files are rewritten already, so only the note shows whose the processes are."""
    daemon.converge(hs())
    wanted = {**hs(1), "hnew": WORKER}

    def die(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as killed:
        killed.setattr(rollout.Rollout, "carry_out", die)
        killed.setattr(apply.Run, "_roll_back", die)
        killed.setattr(apply.ChangeSet, "put_back", lambda _changes: None)
        with pytest.raises(Killed):
            daemon.converge(wanted, purge=purge)
    assert daemon.names() == ["hs_00", "hs_01", "hs_02", "hs_03"]
    assert "hs_01" not in (daemon.conf_d / "hs.conf").read_text()
    result = daemon.converge(wanted, purge=purge)
    assert result["plan"]["removed"] == ["hs_01", "hs_02", "hs_03"]
    assert daemon.names() == ["hnew_00", "hs_00"]
    assert not daemon.converge(wanted, purge=purge)["changed"]


def test_a_program_whose_file_is_gone_is_purged(daemon):
    daemon.converge({**hs(1), "old": WORKER})
    (daemon.conf_d / "old.conf").unlink()
    result = daemon.converge(hs(1))
    assert "no longer listed and run on: old" in " ".join(result["warnings"])
    assert daemon.converge(hs(1), purge=True)["plan"]["removed"] == ["old_00"]
    assert daemon.names() == ["hs_00"]


def test_a_restart_that_was_cut_off_is_finished(daemon, monkeypatch):
    daemon.converge(hs(2))
    before = daemon.pids()

    def die(*_arguments, **_options):
        raise Killed

    with monkeypatch.context() as killed:
        killed.setattr(rollout.Rollout, "carry_out", die)
        killed.setattr(apply.Run, "_roll_back", die)
        with pytest.raises(Killed):
            daemon.converge(hs(2), restart=True)
    result = daemon.converge(hs(2))
    assert result["plan"]["restarted"] == ["hs_00", "hs_01"]
    assert not set(before.values()) & set(daemon.pids().values())
    assert not daemon.converge(hs(2))["changed"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 9}', '{"version": 1, "groups": 3}'])
def test_a_damaged_note_is_written_again(daemon, damage):
    daemon.converge(hs(1))
    path = pathlib.Path(daemon.where.fleets, "default.json")
    good = path.read_text()
    path.write_text(damage)
    assert not daemon.converge(hs(1))["changed"]
    assert path.read_text() == good
    assert "hs_00" in json.loads(good)["groups"]


def test_a_note_has_no_environment(daemon):
    daemon.converge({"hs": {**WORKER, "environment": {"PASSWORD": "Hunter2"}}})
    path = pathlib.Path(daemon.where.fleets, "default.json")
    assert "Hunter2" not in path.read_text()
    sections, _restarting = ownership.read(path)
    assert sections["hs_00"].program == "hs"
    daemon.converge({}, purge=True)
    assert not path.exists()


def test_programs_that_are_renamed_run_on_and_are_named(daemon):
    daemon.converge({"old": WORKER})
    result = daemon.converge({"new": WORKER})
    assert daemon.names() == ["new_00", "old_00"]
    (warning,) = [text for text in result["warnings"] if "run on" in text]
    assert warning.startswith("These programs of the fleet are no longer listed and run on: old.")
    assert "purge: true" in warning


LARAVEL = {"laravel-worker": {**WORKER, "numprocs": 3}}


@pytest.mark.parametrize("name", ["app.conf", "laravel-worker.conf"])
def test_a_handwritten_program_of_the_same_name_is_refused_or_adopted(daemon, name):
    daemon.load(name, HANDWRITTEN)
    before = daemon.pids()
    assert len(before) == 3
    with pytest.raises(GearvisorError, match=rf"{name}.*adopt: true"):
        daemon.converge(LARAVEL)
    assert daemon.pids() == before
    adopting = {"laravel-worker": {**LARAVEL["laravel-worker"], "adopt": True}}
    result = daemon.converge(adopting)
    assert daemon.names() == [f"laravel-worker_{number:02d}" for number in range(3)]
    assert (daemon.conf_d / f"{name}.adopted").read_text() == HANDWRITTEN
    assert sorted(path.name for path in daemon.conf_d.glob("*.conf")) == ["laravel-worker.conf"]
    assert result["plan"]["removed"] == ["laravel-worker"]
    assert not daemon.converge(adopting)["changed"]


def test_what_was_adopted_comes_back_when_the_new_ones_do_not_start(daemon):
    daemon.load("app.conf", HANDWRITTEN)
    bad = {"command": "/bin/false", "startsecs": 1, "startretries": 0, "adopt": True}
    with pytest.raises(GearvisorError, match="The old definition is back"):
        daemon.converge({"laravel-worker": bad})
    assert sorted(daemon.states().values()) == [RUNNING] * 3
    assert sorted(path.name for path in daemon.conf_d.iterdir()) == ["app.conf"]


def test_a_file_with_more_in_it_is_not_adopted(daemon):
    daemon.load("app.conf", HANDWRITTEN + "[program:cron]\ncommand=/bin/sleep 60\nstartsecs=0\n")
    with pytest.raises(GearvisorError, match=r"also has \[program:cron\]"):
        daemon.converge({"laravel-worker": {**WORKER, "adopt": True}})
    assert len(daemon.pids()) == 4


def test_a_stop_that_would_cut_jobs_is_named(daemon):
    daemon.state.mkdir(exist_ok=True)
    pathlib.Path(daemon.where.drop_in).write_text("[Service]\nTimeoutStopSec=330\n")
    result = daemon.converge({"long": {**WORKER, "stopwaitsecs": 3600}, "short": WORKER})
    (warning,) = [text for text in result["warnings"] if "systemd" in text]
    assert warning.startswith("programs.long.stopwaitsecs: 3600 is more than the 330 s")
    assert "supervisor_stop_timeout" in warning


def test_each_process_knows_who_it_is(daemon):
    entry = pwd.getpwnam("nobody")
    program = {**WORKER, "numprocs": 2, "user": "nobody", "environment": {"HOME": "/srv"}}
    for layout in ("processes", "numprocs"):
        daemon.converge({"mail": program}, inventory_hostname="web1.example", layout=layout)
        for name, pid in daemon.pids().items():
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            process = name.partition(":")[2]
            assert f"GEARVISOR_WORKER=web1.example/{process}".encode() in environment
            assert b"HOME=/srv" in environment
            assert b"USER=nobody" in environment
        for place in (daemon.where.runtime, daemon.where.failed):
            found = os.stat(os.path.join(place, "nobody"))
            assert (found.st_mode & 0o7777, found.st_uid) == (0o2750, entry.pw_uid)
        assert not daemon.converge(
            {"mail": program}, inventory_hostname="web1.example", layout=layout
        )["changed"]
    with pytest.raises(InvalidOption, match="inventory_hostname"):
        fleet.converge(fleet.Request({}, inventory_hostname="a b"), daemon.where, True)


def test_a_step_in_flight_is_finished_when_another_fails(daemon, monkeypatch):
    """One ignores the signal and fails the run; the other must not stay EXITED."""
    monkeypatch.setattr(rollout, "KILL_SECONDS", 1)
    both = {
        "deaf": {
            **WORKER,
            "command": "/bin/sh -c 'trap : TERM; while :; do sleep .1; done'",
            "stopwaitsecs": 0,
        },
        "busy": {
            **WORKER,
            "command": "/bin/sh -c 'trap \"sleep 3; exit 0\" TERM; while :; do sleep .1; done'",
            "autorestart": "unexpected",
            "stopwaitsecs": 20,
        },
    }
    daemon.converge(both)
    daemon.wait_for(daemon.all_catch_term)
    before = daemon.pids()
    with pytest.raises(GearvisorError, match=r"deaf_00:deaf_00.*still runs its old code"):
        daemon.converge(both, restart=True)
    after = daemon.pids()
    assert set(daemon.states().values()) == {RUNNING}
    assert after["busy_00:busy_00"] != before["busy_00:busy_00"]
    assert after["deaf_00:deaf_00"] == before["deaf_00:deaf_00"]


def _children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("change", [{"restart": True}, {}], ids=["restart", "replace"])
def test_a_wrapper_does_not_leave_its_worker_behind(daemon, change):
    wrapped = {
        "app": {
            **WORKER,
            "command": "/bin/bash -c 'true; sleep 60; true'",
            "stopasgroup": True,
            "stopwaitsecs": 5,
        }
    }
    daemon.converge(wrapped)
    (pid,) = daemon.pids().values()
    daemon.wait_for(lambda: _children(pid))
    if not change:
        wrapped["app"]["priority"] = 1
    daemon.converge(wrapped, **change)
    assert not leftovers.members(pid)
    assert daemon.pids() != {"app_00:app_00": pid}


def test_what_a_job_has_started_is_named_and_left(daemon):
    """Without stopasgroup, what is behind a wrapper and serves no job server may be wanted."""
    wrapped = {
        "app": {**WORKER, "command": "/bin/bash -c 'true; sleep 60; true'", "stopwaitsecs": 5}
    }
    daemon.converge(wrapped)
    (pid,) = daemon.pids().values()
    daemon.wait_for(lambda: _children(pid))
    (worker,) = _children(pid)
    result = daemon.converge(wrapped, restart=True)
    (warning,) = [text for text in result["warnings"] if "left processes behind" in text]
    assert worker in warning
    os.kill(int(worker), 9)
