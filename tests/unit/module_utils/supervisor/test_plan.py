from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.plan import (
    Plan,
    State,
    confirmed,
    is_true,
    make_plan,
    next_batch,
    seconds,
    should_be_up,
    wants_start,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.rpc import (
    Delta,
    Process,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.sections import Section

FOREVER = {"autorestart": "true"}
ONE_SHOT = {}
MANUAL = {"autostart": "false", "autorestart": "true"}


def processes(group, *states):
    return [
        Process(group, f"{group}_{number}", state, 0, 0, "") for number, state in enumerate(states)
    ]


def fleet(**commands):
    """{group: Section} of program "mail", each with this command."""
    return {
        group: Section("mail", group, {"command": command, **FOREVER})
        for group, command in commands.items()
    }


def loaded(**states):
    return {group: processes(group, state) for group, state in states.items()}


PLANS = {
    "nothing there": ({}, fleet(a="1", b="1"), {}, {"add": ("a", "b")}),
    "nothing new": (fleet(a="1"), fleet(a="1"), loaded(a="RUNNING"), {"kept": ("a",)}),
    "starting is fine": (fleet(a="1"), fleet(a="1"), loaded(a="STARTING"), {"kept": ("a",)}),
    "scaled up": (
        fleet(a="1"),
        fleet(a="1", b="1"),
        loaded(a="RUNNING"),
        {"add": ("b",), "kept": ("a",)},
    ),
    "scaled down": (
        fleet(a="1", b="1"),
        fleet(a="1"),
        loaded(a="RUNNING", b="RUNNING"),
        {"remove": ("b",), "kept": ("a",)},
    ),
    "changed": (fleet(a="1"), fleet(a="2"), loaded(a="RUNNING"), {"change": ("a",)}),
    "changed while stopped": (fleet(a="1"), fleet(a="2"), loaded(a="STOPPED"), {"change": ("a",)}),
    "on disk but not loaded": (fleet(a="1"), fleet(a="1"), {}, {"add": ("a",)}),
    "loaded but our file is gone": ({}, fleet(a="1"), loaded(a="RUNNING"), {"change": ("a",)}),
    "stopped by hand": (fleet(a="1"), fleet(a="1"), loaded(a="STOPPED"), {"start": ("a",)}),
    "gave up": (fleet(a="1"), fleet(a="1"), loaded(a="FATAL"), {"start": ("a",)}),
    "left stopping": (fleet(a="1"), fleet(a="1"), loaded(a="STOPPING"), {"start": ("a",)}),
    "old and never loaded": (fleet(a="1"), {}, {}, {}),
    "others are not touched": ({}, {}, loaded(theirs="FATAL"), {}),
}


@pytest.mark.parametrize(("old", "new", "groups", "expected"), PLANS.values(), ids=PLANS)
def test_plan(old, new, groups, expected):
    nothing = dict.fromkeys(Plan._fields, ())
    assert make_plan(old, new, State(groups)) == Plan(**{**nothing, **expected})


def test_a_group_that_differs_from_its_unchanged_file_is_replaced():
    state = State(loaded(a="RUNNING", b="RUNNING"), frozenset({"a", "theirs"}))
    plan = make_plan(fleet(a="1", b="1"), fleet(a="1", b="1"), state)
    assert plan.change == ("a",)
    assert plan.kept == ("b",)


@pytest.mark.parametrize(
    ("options", "state", "restarted"),
    [
        (FOREVER, "RUNNING", True),
        (FOREVER, "STOPPED", True),
        (MANUAL, "RUNNING", True),
        (MANUAL, "STOPPED", False),
    ],
    ids=["running", "stopped", "started by hand", "not started by hand"],
)
def test_new_code_restarts_what_runs_or_should(options, state, restarted):
    group = {"a": Section("mail", "a", options)}
    plan = make_plan(group, group, State(loaded(a=state)), frozenset({"mail"}))
    assert (plan.restart, plan.kept) == ((("a",), ()) if restarted else ((), ("a",)))


def test_new_code_of_another_program_restarts_nothing():
    plan = make_plan(fleet(a="1"), fleet(a="1"), State(loaded(a="RUNNING")), frozenset({"news"}))
    assert plan.kept == ("a",)


def test_a_changed_definition_needs_no_restart_besides():
    plan = make_plan(fleet(a="1"), fleet(a="2"), State(loaded(a="RUNNING")), frozenset({"mail"}))
    assert (plan.change, plan.restart) == (("a",), ())


def section(**options):
    return Section("mail", "a", {"command": "1", **options})


LOG = {"stdout_logfile": "/l/a.log"}


@pytest.mark.parametrize(
    ("old", "new", "seen", "replaced"),
    [
        (section(), section(priority="1"), {"a"}, True),
        (section(priority="1"), section(), set(), False),
        (None, section(), set(), False),
        (section(**LOG), section(), set(), True),
        (section(**LOG), section(stdout_logfile="auto"), set(), True),
        (section(stdout_logfile="AUTO"), section(), set(), False),
        (section(stderr_logfile="/l"), section(), set(), True),
    ],
    ids=[
        "supervisord sees it",
        "edited by hand and never loaded",
        "our file was gone",
        "a log is left out, which supervisord overlooks",
        "a log becomes automatic, which it overlooks too",
        "automatic before and after",
        "a log for errors is left out",
    ],
)
def test_confirmed_replaces_only_what_really_differs(old, new, seen, replaced):
    decided = Plan((), (), ("a",), (), (), ("b",))
    delta = Delta(frozenset(), frozenset(seen), frozenset())
    plan = confirmed(decided, delta, {"a": old} if old else {}, {"a": new})
    expected = decided if replaced else Plan((), (), (), (), (), ("b", "a"))
    assert plan == expected


def test_as_result_names_every_part():
    assert Plan(*("abcdef")).as_result() == {
        "added": ["a"],
        "removed": ["b"],
        "changed": ["c"],
        "restarted": ["d"],
        "started": ["e"],
        "kept": ["f"],
    }


def test_lines_show_what_happens_to_each_group():
    plan = Plan(("a",), ("b",), ("c",), ("d",), ("e",), ("f",))
    assert plan.lines() == [
        "start: a",
        "start: e",
        "stop and remove: b",
        "replace: c",
        "restart by signal: d",
    ]
    assert plan.touches_processes
    assert not Plan((), (), (), (), (), ("f",)).touches_processes


@pytest.mark.parametrize(
    ("options", "states", "expected"),
    [
        (FOREVER, ["RUNNING"], False),
        (FOREVER, ["STARTING"], False),
        (FOREVER, ["EXITED"], True),
        (FOREVER, ["BACKOFF"], True),
        (FOREVER, ["RUNNING", "STOPPED"], True),
        (ONE_SHOT, ["EXITED"], False),
        (ONE_SHOT, ["FATAL"], True),
        ({"autorestart": "false"}, ["EXITED"], False),
        (MANUAL, ["STOPPED"], False),
        ({"autostart": "No"}, ["STOPPED"], False),
    ],
    ids=str,
)
def test_wants_start(options, states, expected):
    assert wants_start(options, processes("a", *states)) is expected


@pytest.mark.parametrize(
    ("options", "states", "expected"),
    [
        (FOREVER, ["RUNNING"], True),
        (FOREVER, ["EXITED"], True),
        (FOREVER, [], True),
        (ONE_SHOT, ["EXITED"], False),
        (ONE_SHOT, ["EXITED", "RUNNING"], True),
        (ONE_SHOT, ["FATAL"], True),
        (MANUAL, ["RUNNING"], False),
    ],
    ids=str,
)
def test_should_be_up(options, states, expected):
    assert bool(should_be_up(options, processes("a", *states))) is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 10), ({"stopwaitsecs": "330"}, 330), ({"stopwaitsecs": "soon"}, 10)],
    ids=str,
)
def test_seconds(options, expected):
    assert seconds(options, "stopwaitsecs") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"autostart": "ON"}, True),
        ({"autostart": "1"}, True),
        ({"autostart": "off"}, False),
    ],
    ids=str,
)
def test_is_true(options, expected):
    assert is_true(options, "autostart") is expected


# Of a, b and c: which wait, which are down, batch, max_unavailable -> which go now.
BATCHES = {
    "one at a time": ("abc", "", 1, 1, "a"),
    "two at a time": ("abc", "", 2, 2, "ab"),
    "more than there are": ("abc", "", 9, 9, "abc"),
    "held back by max_unavailable": ("abc", "", 3, 1, "a"),
    "held back by batch": ("abc", "", 1, 3, "a"),
    "one that is down goes first": ("abc", "c", 1, 1, "c"),
    "one that is down costs nothing more": ("abc", "c", 2, 2, "ca"),
    "but what it costs counts": ("abc", "c", 2, 1, "c"),
    "all down may all go": ("abc", "abc", 3, 1, "abc"),
    "a member that does not wait counts": ("ab", "c", 1, 1, ""),
    "unless there is room": ("ab", "c", 1, 2, "a"),
    "nothing waits": ("", "a", 1, 1, ""),
}


@pytest.mark.parametrize(
    ("waiting", "down", "batch", "max_unavailable", "expected"), BATCHES.values(), ids=BATCHES
)
@pytest.mark.parametrize("down_state", ["STOPPED", "STARTING", "FATAL", "gone"])
def test_next_batch(waiting, down, batch, max_unavailable, expected, down_state):
    members = {
        group: processes(group, "RUNNING")
        if group not in down
        else ([] if down_state == "gone" else processes(group, down_state))
        for group in "abc"
    }
    assert next_batch(list(waiting), members, batch, max_unavailable) == list(expected)


def test_a_group_is_up_only_when_all_its_processes_are():
    members = {"a": processes("a", "RUNNING", "STARTING"), "b": processes("b", "RUNNING")}
    assert next_batch(["b"], members, 1, 1) == []
    assert next_batch(["a", "b"], members, 2, 1) == ["a"]
