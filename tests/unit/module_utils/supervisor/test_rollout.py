from __future__ import annotations

import re

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    rollout,
    rounds,
    rpc,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.rpc import (
    EXITED,
    STOPPED,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.sections import Section

pytestmark = pytest.mark.supervisords("one")

WORKER = {"command": "/bin/sleep 60", "startsecs": 0, "autorestart": True}


def events(daemon):
    """What supervisord did, by its own log: +name for a start, -name for an end."""
    log = (daemon.directory / "supervisord.log").read_text()
    found = re.findall(r"(spawned|stopped|exited): '?(\w+)", log)
    return [("+" if event == "spawned" else "-") + name for event, name in found]


def forget(daemon):
    (daemon.directory / "supervisord.log").write_text("")


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        ({"batch": 1}, ["-0", "+0", "-1", "+1", "-2", "+2", "-3", "+3"]),
        ({"batch": 2}, ["-0 -1", "+0 +1", "-2 -3", "+2 +3"]),
        ({"batch": 4}, ["-0 -1 -2 -3", "+0 +1 +2 +3"]),
        (
            {"batch": 4, "max_unavailable": 1},
            ["-0", "+0", "-1", "+1", "-2", "+2", "-3", "+3"],
        ),
    ],
    ids=str,
)
def test_a_change_goes_in_batches(daemon, pace, expected):
    """All of a batch are stopped before the next batch is, and run again before that."""
    daemon.converge({"w": {**WORKER, "numprocs": 4}})
    forget(daemon)
    daemon.converge({"w": {**WORKER, "numprocs": 4, "command": "/bin/sleep 61"}}, **pace)
    done = [event.replace("w_0", "") for event in events(daemon)]
    size = pace["batch"] if "max_unavailable" not in pace else 1
    # Within a batch, the processes do not wait for each other.
    batches = [done[start : start + 2 * size] for start in range(0, 8, 2 * size)]
    wanted = [" ".join(expected[i : i + 2]).split() for i in range(0, len(expected), 2)]
    assert [sorted(batch) for batch in batches] == [sorted(batch) for batch in wanted]
    for batch in batches:
        for event in batch:
            if event.startswith("-"):
                assert batch.index(event) < batch.index("+" + event[1:])


def test_restarts_go_in_batches(daemon):
    fleet = {"w": {**WORKER, "numprocs": 3}}
    daemon.converge(fleet)
    forget(daemon)
    daemon.converge(fleet, restart=True)
    assert events(daemon) == ["-w_00", "+w_00", "-w_01", "+w_01", "-w_02", "+w_02"]


def test_new_processes_start_before_old_ones_stop(daemon):
    daemon.converge({"old": WORKER})
    forget(daemon)
    daemon.converge({"new": WORKER}, purge=True)
    assert events(daemon) == ["+new_00", "-old_00"]


def test_programs_do_not_wait_for_each_other(daemon):
    """The slow one drains for a second; the quick one is done before."""
    slow = "/bin/sh -c 'trap \"sleep 1; exit 0\" TERM; while :; do sleep .1; done'"
    fleet = {"slow": {**WORKER, "command": slow}, "quick": {**WORKER, "numprocs": 2}}
    daemon.converge(fleet)
    daemon.wait_for(lambda: daemon.catches_term("slow_00:slow_00"))
    forget(daemon)
    changed = {name: {**program, "priority": 1} for name, program in fleet.items()}
    daemon.converge(changed)
    done = events(daemon)
    assert done.index("+quick_01") < done.index("-slow_00") < done.index("+slow_00")


QUICK = ("quick_00", "quick_01", "quick_02")


def test_programs_with_a_new_release_wait_for_each_others_first_batch(daemon):
    """The release is wrong for all of them if it is for one: the quick one goes no further than its first batch."""
    place = daemon.directory / "srv"

    def fleet(number):
        target = place / "releases" / number
        target.mkdir(parents=True, exist_ok=True)
        release = {"link": str(place / "current"), "target": str(target)}
        program = {**WORKER, "directory": str(place / "current"), "release": release}
        return {"slow": {**program, "startsecs": 2}, "quick": {**program, "numprocs": 3}}

    daemon.converge(fleet("1"))
    forget(daemon)
    daemon.converge(fleet("2"))
    log = (daemon.directory / "supervisord.log").read_text()
    slow_is_up = re.search(r"success: '?slow_00'? entered RUNNING", log).start()
    ends = {name: re.search(f"(stopped|exited): '?{name}", log).start() for name in QUICK}
    assert ends["quick_00"] < slow_is_up < min(ends["quick_01"], ends["quick_02"])


def test_the_first_that_fails_is_the_last_that_is_touched(daemon):
    switch = daemon.directory / "switch"
    switch.write_text("on")
    command = (
        f"/bin/sh -c 'test $0 != 00 || test -e {switch} || exit 1; exec sleep 60' %(process_num)02d"
    )
    worker = {**WORKER, "command": command, "numprocs": 3, "startretries": 999}
    daemon.converge({"w": worker})
    switch.unlink()
    before = daemon.pids()
    with pytest.raises(GearvisorError, match="w_00:w_00 does not start"):
        daemon.converge({"w": {**worker, "startsecs": 1}}, wait_timeout=1)
    after = daemon.pids()
    assert {name: after[name] for name in ("w_01:w_01", "w_02:w_02")} == {
        name: before[name] for name in ("w_01:w_01", "w_02:w_02")
    }


def test_a_process_that_stays_down_holds_the_roll_until_it_gives_up(daemon):
    daemon.converge({"w": {**WORKER, "numprocs": 2}})
    daemon.rpc.stop_group("w_00")
    daemon.wait_for(lambda: daemon.states()["w_00:w_00"] == STOPPED)
    options = {"command": "/bin/sleep 60", "autorestart": "true", "startsecs": "0"}
    sections = [Section("w", group, options) for group in ("w_00", "w_01")]
    taken_down = []

    def step(group):
        taken_down.append(group)
        yield

    def roll(max_unavailable):
        pace = rollout.Pace(max_unavailable=max_unavailable, wait_timeout=1)
        fleet = {section.group: section for section in sections}
        loaded = rpc.loaded(daemon.rpc)
        rolled = rollout.Rollout(daemon.rpc, loaded, fleet, fleet, pace, daemon.where)
        rolled._replace = step
        rounds.run(rolled.view, [rolled._in_batches("w", ["w_01"], frozenset())])

    with pytest.raises(GearvisorError) as caught:
        roll(1)
    assert "max_unavailable: 1 does not let w go on" in str(caught.value)
    assert "raise max_unavailable" in str(caught.value)
    assert taken_down == []
    roll(2)
    assert taken_down == ["w_01"]


def test_one_shots_that_have_finished_do_not_hold_the_roll(daemon):
    once = {"command": "/bin/true", "startsecs": 0, "numprocs": 2}
    daemon.converge({"w": once})
    daemon.wait_for(lambda: set(daemon.states().values()) == {EXITED})
    result = daemon.converge({"w": {**once, "priority": 1}}, wait_timeout=2)
    assert result["plan"]["changed"] == ["w_00", "w_01"]
