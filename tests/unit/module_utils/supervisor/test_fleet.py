from __future__ import annotations

import json
import os
import pathlib
import platform
import pwd
import shutil
import stat
import subprocess
import threading
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import fleet, rollout
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.options import OPTIONS
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.rpc import (
    EXITED,
    RUNNING,
    STOPPED,
    STOPPING,
    SupervisordUnavailable,
)

pytestmark = pytest.mark.supervisords("one")

WORKER = {"command": "/bin/sleep 60", "startsecs": 0, "autorestart": True}
# Fails at once, with a reason.
BROKEN = {
    "command": "/bin/sh -c 'echo boom >&2; exit 3'",
    "startsecs": 1,
    "startretries": 0,
    "autorestart": True,
}
# Finishes its job of a second before it leaves.
BUSY = {
    **WORKER,
    "command": "/bin/sh -c 'trap \"sleep 1; exit 0\" TERM; while :; do sleep .1; done'",
}


def programs(numprocs=3, **options):
    return {"mail": {**WORKER, "numprocs": numprocs, **options}}


def everything_kept(plan):
    return not any(groups for happening, groups in plan.items() if happening != "kept")


@pytest.mark.supervisords("all")
def test_first_call_starts_the_fleet_and_the_second_changes_nothing(daemon):
    result = daemon.converge(programs())
    names = ["mail_00", "mail_01", "mail_02"]
    assert result["changed"]
    assert result["plan"]["added"] == names
    assert result["files"] == [f"{daemon.conf_d}/mail.conf"]
    assert [process["name"] for process in result["processes"]] == [f"{n}:{n}" for n in names]
    assert {process["state"] for process in result["processes"]} == {RUNNING}
    status = (daemon.conf_d / "mail.conf").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, 0)

    before = daemon.snapshot()
    result = daemon.converge(programs())
    assert not result["changed"]
    assert result["diff"] == []
    assert result["plan"]["kept"] == names
    assert everything_kept(result["plan"])
    assert daemon.snapshot() == before


@pytest.mark.supervisords("all")
def test_scaling_touches_only_the_difference(daemon):
    daemon.converge(programs(3))
    for count in (5, 4, 0, 3):
        before = daemon.pids()
        result = daemon.converge(programs(count))
        after = daemon.pids()
        expected = [f"mail_{number:02d}" for number in range(count)]
        assert daemon.names() == expected
        assert len(result["plan"]["added"]) == max(0, count - len(before))
        assert len(result["plan"]["removed"]) == max(0, len(before) - count)
        for name in set(before) & set(after):
            assert after[name] == before[name]
        assert not daemon.converge(programs(count))["changed"]


def test_numprocs_layout_scales_to_zero_and_back(daemon):
    for count in (2, 0, 3):
        assert daemon.converge(programs(count), layout="numprocs")["changed"]
        assert sorted(daemon.states()) == [f"mail:mail_{number:02d}" for number in range(count)]
        assert set(daemon.states().values()) <= {RUNNING}
        assert not daemon.converge(programs(count), layout="numprocs")["changed"]


def test_the_other_layout_takes_over(daemon):
    daemon.converge(programs(2), layout="numprocs")
    daemon.converge(programs(2))
    assert daemon.names() == ["mail_00", "mail_01"]
    assert not daemon.converge(programs(2))["changed"]


def test_a_change_rolls_with_all_but_one_running(daemon):
    daemon.converge(programs(startsecs=1))
    before = daemon.pids()
    samples = []
    done = threading.Event()

    def sample():
        supervisord = daemon.rpc
        while not done.is_set():
            states = [process.state for process in supervisord.processes()]
            samples.append(states.count(RUNNING))
            time.sleep(0.01)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        result = daemon.converge(programs(startsecs=1, command="/bin/sleep 61"))
    finally:
        done.set()
        sampler.join()
    assert result["plan"]["changed"] == ["mail_00", "mail_01", "mail_02"]
    assert min(samples) == 2
    assert not set(before.values()) & set(daemon.pids().values())
    assert set(daemon.states().values()) == {RUNNING}


def test_a_change_of_one_program_leaves_the_others(daemon):
    both = {**programs(2), "news": WORKER}
    daemon.converge(both)
    before = daemon.pids()
    result = daemon.converge({**both, "news": {**WORKER, "command": "/bin/sleep 61"}})
    assert result["plan"]["changed"] == ["news_00"]
    assert result["files"] == [f"{daemon.conf_d}/news.conf"]
    after = daemon.pids()
    assert after.pop("news_00:news_00") != before.pop("news_00:news_00")
    assert after == before


@pytest.mark.supervisords("all")
def test_a_definition_that_does_not_start_is_taken_back(daemon):
    daemon.converge(programs())
    before, files = daemon.pids(), daemon.files()
    with pytest.raises(GearvisorError) as caught:
        daemon.converge(programs(**BROKEN))
    message = str(caught.value)
    assert "mail_00:mail_00 does not start: Exited too quickly" in message
    assert message.endswith("The old definition is back. Its last output is under 'output'")
    assert "boom" not in message
    assert caught.value.details["process"] == "mail_00:mail_00"
    assert caught.value.details["output"] == "boom"
    assert "Exited too quickly" in caught.value.details["reason"]
    assert daemon.files() == files
    after = daemon.pids()
    assert set(daemon.states().values()) == {RUNNING}
    # Only the first was ever touched.
    assert after.pop("mail_00:mail_00") != before.pop("mail_00:mail_00")
    assert after == before
    assert not daemon.converge(programs())["changed"]


def test_a_first_apply_that_fails_leaves_nothing_behind(daemon):
    with pytest.raises(GearvisorError, match="does not start"):
        daemon.converge(
            {
                "good": {**WORKER, "directory": str(daemon.directory / "srv")},
                "zbad": {**BROKEN, "stdout_logfile": str(daemon.directory / "log/zbad.log")},
            }
        )
    assert daemon.files() == {}
    assert daemon.states() == {}
    assert not (daemon.directory / "srv").exists()
    # What it has written before it failed is kept.
    assert [path.name for path in (daemon.directory / "log").iterdir()] == ["zbad.log"]


def test_a_program_that_still_does_not_start_is_told_without_a_way_back(daemon):
    broken = {"mail": BROKEN}
    daemon.converge(broken, wait=False)
    before = daemon.files()
    with pytest.raises(GearvisorError, match="does not start") as caught:
        daemon.converge(broken)
    assert "boom" in caught.value.details["output"]
    assert "old definition" not in str(caught.value)
    assert daemon.files() == before


def test_wait_false_does_not_wait(daemon):
    slow = {"mail": {**WORKER, "startsecs": 30}}
    started = time.monotonic()
    result = daemon.converge(slow, wait=False)
    assert time.monotonic() - started < 25
    assert result["processes"][0]["state"] == "STARTING"


def test_too_slow_a_start_is_a_failure(daemon):
    with pytest.raises(GearvisorError, match="does not start: Exited too quickly"):
        daemon.converge({"mail": {**BROKEN, "startsecs": 1, "startretries": 60}}, wait_timeout=1)
    assert daemon.states() == {}


@pytest.mark.supervisords("all")
@pytest.mark.parametrize("how", ["fingerprint", "restart"])
def test_new_code_restarts_by_signal(daemon, how):
    code = daemon.directory / "code"
    code.mkdir()
    (code / "a.py").write_text("1")
    options = {"fingerprint": [str(code)]} if how == "fingerprint" else {}
    daemon.converge(programs(2), **options)
    before = daemon.pids()
    (code / "__pycache__").mkdir()
    (code / "__pycache__/a.pyc").write_text("cache")
    assert not daemon.converge(programs(2), **options)["changed"]
    assert daemon.pids() == before

    (code / "a.py").write_text("2")
    again = options or {"restart": True}
    result = daemon.converge(programs(2), **again)
    assert result["plan"]["restarted"] == ["mail_00", "mail_01"]
    assert set(daemon.states().values()) == {RUNNING}
    assert not set(before.values()) & set(daemon.pids().values())
    assert not daemon.converge(programs(2), **options)["changed"]


def test_restart_lets_each_process_finish_and_restarts_what_exits(daemon):
    """With autorestart=unexpected, supervisord itself would leave them EXITED."""
    busy = {"mail": {**BUSY, "autorestart": "unexpected", "numprocs": 2, "stopwaitsecs": 20}}
    daemon.converge(busy)
    before = daemon.pids()
    daemon.wait_for(daemon.all_catch_term)
    daemon.converge(busy, restart=True)
    assert set(daemon.states().values()) == {RUNNING}
    assert not set(before.values()) & set(daemon.pids().values())
    log = (daemon.directory / "supervisord.log").read_text()
    assert log.count("exit status 0; expected") == 2
    assert "SIGKILL" not in log


def test_a_restart_that_a_process_ignores_is_told_and_kills_nothing(daemon, monkeypatch):
    monkeypatch.setattr(rollout, "KILL_SECONDS", 1)
    stubborn = "/bin/sh -c 'trap : TERM; while :; do sleep .1; done'"
    deaf = programs(1, command=stubborn, stopwaitsecs=0)
    daemon.converge(deaf)
    daemon.wait_for(daemon.all_catch_term)
    before = daemon.pids()
    with pytest.raises(GearvisorError, match=r"still runs its old code.*Nothing was killed"):
        daemon.converge(deaf, restart=True)
    assert daemon.pids() == before


def test_a_restart_that_fails_is_tried_again_by_the_next_call(daemon):
    code = daemon.directory / "worker"
    code.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    code.chmod(0o755)
    worker = programs(1, command=str(code), startsecs=1, startretries=0)
    request = {"fingerprint": [str(code)]}
    daemon.converge(worker, **request)
    files = daemon.files()
    code.write_text("#!/bin/sh\necho new code is broken; exit 1\n")
    with pytest.raises(
        GearvisorError, match=r"nothing to go back to.*mail_00 have the new code"
    ) as caught:
        daemon.converge(worker, **request)
    # supervisord may have tried it twice by then.
    assert set(caught.value.details["output"].splitlines()) == {"new code is broken"}
    assert daemon.files() == files
    code.write_text("#!/bin/sh\nexec /bin/sleep 61\n")
    assert daemon.converge(worker, **request)["changed"]
    assert set(daemon.states().values()) == {RUNNING}


def test_leaving_out_the_fingerprint_restarts_nothing(daemon):
    daemon.converge(programs(2), fingerprint=[daemon.where.config])
    before = daemon.pids()
    result = daemon.converge(programs(2))
    assert result["files"] == [f"{daemon.conf_d}/mail.conf"]
    assert everything_kept(result["plan"])
    assert daemon.pids() == before


@pytest.mark.parametrize("layout", ["processes", "numprocs"])
def test_a_stopped_program_without_autostart_is_not_started_by_a_restart(daemon, layout):
    manual = programs(2, autostart=False)
    daemon.converge(manual, layout=layout)
    stopped, started = sorted(daemon.states())
    assert set(daemon.states().values()) == {STOPPED}
    daemon.rpc.start_process(started)
    daemon.wait_for(lambda: daemon.states()[started] == RUNNING)
    daemon.wait_for(daemon.all_are_programs)
    before = daemon.pids()
    daemon.converge(manual, layout=layout, restart=True)
    daemon.wait_for(lambda: daemon.states() == {stopped: STOPPED, started: RUNNING})
    assert daemon.pids()[started] != before[started]


def test_purge_removes_leftovers_of_its_own_fleet_only(daemon):
    daemon.converge({"mail": WORKER, "old": WORKER}, fleet="shop")
    daemon.converge({"other": WORKER}, fleet="blog")
    daemon.load("theirs.conf", "[program:theirs]\ncommand=/bin/sleep 60\n")
    before = daemon.pids()
    # Without purge it stays.
    assert not daemon.converge({"mail": WORKER}, fleet="shop")["changed"]
    result = daemon.converge({"mail": WORKER}, fleet="shop", purge=True)
    assert result["plan"]["removed"] == ["old_00"]
    assert result["files"] == [f"{daemon.conf_d}/old.conf"]
    assert sorted(daemon.files()) == ["mail.conf", "other.conf", "theirs.conf"]
    del before["old_00:old_00"]
    assert daemon.pids() == before


def test_absent_removes_the_whole_fleet(daemon):
    daemon.converge(programs(2))
    daemon.load("theirs.conf", "[program:theirs]\ncommand=/bin/sleep 60\n")
    assert fleet.absent("default", daemon.where)["changed"]
    assert daemon.names() == ["theirs"]
    assert sorted(daemon.files()) == ["theirs.conf"]
    assert not fleet.absent("default", daemon.where)["changed"]


@pytest.mark.supervisords("all")
def test_pending_edits_of_others_are_left_alone_and_reported(daemon):
    daemon.load("theirs.conf", "[program:theirs]\ncommand=/bin/sleep 60\n")
    (daemon.conf_d / "theirs.conf").write_text("[program:theirs]\ncommand=/bin/sleep 61\n")
    (daemon.conf_d / "waiting.conf").write_text("[program:waiting]\ncommand=/bin/sleep 60\n")
    theirs = daemon.pids()["theirs:theirs"]
    result = daemon.converge(programs(1))
    (warning,) = [text for text in result["warnings"] if "pending" in text]
    assert warning.startswith("Edits of others are pending and were left alone: theirs, waiting")
    assert daemon.names() == ["mail_00", "theirs"]
    assert daemon.pids()["theirs:theirs"] == theirs


def test_a_stopped_process_is_started_again(daemon):
    daemon.converge(programs(2))
    before = daemon.pids()
    daemon.rpc.stop_group("mail_01")
    daemon.wait_for(lambda: daemon.states()["mail_01:mail_01"] == STOPPED)
    result = daemon.converge(programs(2))
    assert result["plan"]["started"] == ["mail_01"]
    assert set(daemon.states().values()) == {RUNNING}
    assert daemon.pids()["mail_00:mail_00"] == before["mail_00:mail_00"]


def test_a_program_that_has_finished_is_left_alone(daemon):
    once = {"setup": {"command": "/bin/true", "startsecs": 0}}
    daemon.converge(once)
    daemon.wait_for(lambda: daemon.states() == {"setup_00:setup_00": EXITED})
    result = daemon.converge(once)
    assert not result["changed"]
    assert result["plan"]["kept"] == ["setup_00"]
    assert daemon.states() == {"setup_00:setup_00": EXITED}


@pytest.mark.supervisords("all")
@pytest.mark.parametrize("command", [BUSY["command"], "/bin/sleep 61"], ids=["same", "changed"])
def test_a_group_left_stopping_by_an_interrupted_run_is_picked_up(daemon, command):
    daemon.converge({"mail": BUSY})
    before = daemon.pids()
    daemon.wait_for(daemon.all_catch_term)
    daemon.rpc.stop_group("mail_00")
    assert daemon.states() == {"mail_00:mail_00": STOPPING}
    daemon.converge({"mail": {**BUSY, "command": command}}, wait_timeout=3)
    assert daemon.states() == {"mail_00:mail_00": RUNNING}
    assert daemon.pids() != before
    assert not daemon.converge({"mail": {**BUSY, "command": command}})["changed"]


def test_files_of_an_interrupted_run_are_applied(daemon):
    """The files were written and supervisord never reloaded."""
    daemon.converge(programs(2))
    path = daemon.conf_d / "mail.conf"
    path.write_text(path.read_text().replace("sleep 60", "sleep 61"))
    result = daemon.converge(programs(2, command="/bin/sleep 61"))
    assert result["plan"]["changed"] == ["mail_00", "mail_01"]
    assert result["files"] == []
    assert not daemon.converge(programs(2, command="/bin/sleep 61"))["changed"]


@pytest.mark.parametrize(
    "damage",
    ["stopwaitsecs=soon", "autostart=perhaps", "this is no option", "[program:", "numprocs=2"],
)
def test_a_file_of_ours_that_somebody_damaged_is_put_right(daemon, damage):
    daemon.converge(programs(1))
    path = daemon.conf_d / "mail.conf"
    good = path.read_text()
    path.write_text(good + damage + "\n")
    result = daemon.converge(programs(1))
    assert result["files"] == [str(path)]
    assert path.read_text() == good
    assert daemon.states() == {"mail_00:mail_00": RUNNING}
    assert not daemon.converge(programs(1))["changed"]


def test_an_edit_by_hand_that_was_never_loaded_interrupts_nothing(daemon):
    daemon.converge(programs())
    path = daemon.conf_d / "mail.conf"
    good = path.read_text()
    path.write_text(good.replace("sleep 60", "sleep 61", 1))
    before = daemon.pids()
    result = daemon.converge(programs())
    assert result["files"] == [str(path)]
    assert everything_kept(result["plan"])
    assert path.read_text() == good
    assert daemon.pids() == before


def test_an_edit_by_hand_that_was_loaded_is_taken_back(daemon):
    daemon.converge(programs(1))
    path = daemon.conf_d / "mail.conf"
    path.write_text(path.read_text().replace("sleep 60", "sleep 61"))
    daemon.rpc.reload_config()
    daemon.rpc.stop_group("mail_00")
    daemon.wait_for(lambda: set(daemon.states().values()) == {STOPPED})
    daemon.rpc.remove_group("mail_00")
    daemon.rpc.add_group("mail_00")
    daemon.wait_for(daemon.all_are_programs)
    result = daemon.converge(programs(1))
    assert result["plan"]["changed"] == ["mail_00"]
    pid = daemon.pids()["mail_00:mail_00"]
    assert pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/sleep\x0060\0"


# Each option with a value that is not its default: what supervisord does not see as a change
# would be on disk and never in force.
CHANGES = {
    "command": "/bin/sleep 61",
    "priority": 1,
    "autostart": False,
    "startsecs": 1,
    "startretries": 9,
    "autorestart": False,
    "exitcodes": [0, 2],
    "stopsignal": "INT",
    "stopwaitsecs": 9,
    "stopasgroup": True,
    "killasgroup": True,
    "user": "nobody",
    "directory": "/",
    "umask": "077",
    "environment": {"A": "1"},
    "environment_expanded": {"B": "%(ENV_FROM_SUPERVISORD)s"},
    "redirect_stderr": True,
    "stdout_logfile": "%(here)s/out.log",
    "stdout_logfile_maxbytes": "1MB",
    "stdout_logfile_backups": 1,
    "stdout_capture_maxbytes": "1KB",
    "stdout_events_enabled": True,
    "stdout_syslog": True,
    "stderr_logfile": "%(here)s/err.log",
    "stderr_logfile_maxbytes": "1MB",
    "stderr_logfile_backups": 1,
    "stderr_capture_maxbytes": "1KB",
    "stderr_events_enabled": True,
    "stderr_syslog": True,
    "serverurl": "http://127.0.0.1:9001",
}


def test_every_option_that_changes_and_changes_back_is_in_force(daemon):
    """One program an option, in two calls: to another value and back to the default."""
    assert set(CHANGES) == set(OPTIONS["program"]) - {"process_name", "numprocs", "numprocs_start"}
    plain = {option: {"command": "/bin/sleep 60", "startsecs": 0} for option in CHANGES}
    changed = {option: {**plain[option], option: value} for option, value in CHANGES.items()}
    everything = sorted(f"{option}_00" for option in CHANGES)
    daemon.converge(plain, batch=9)
    for given in (changed, plain):
        result = daemon.converge(given, batch=9)
        assert sorted(result["plan"]["changed"]) == everything
        assert not daemon.converge(given)["changed"]


@pytest.mark.parametrize("log", ["AUTO", "auto", None])
def test_a_log_that_becomes_automatic_is_in_force(daemon, log):
    path = daemon.directory / "x.log"
    loud = "/bin/sh -c 'echo loud; exec sleep 60'"
    daemon.converge(programs(1, command=loud, stdout_logfile=str(path)))
    daemon.wait_for(lambda: path.read_text() == "loud\n")
    result = daemon.converge(programs(1, command=loud, stdout_logfile=log))
    assert result["plan"]["changed"] == ["mail_00"]
    daemon.wait_for(lambda: daemon.rpc.last_output("mail_00:mail_00") == "loud")
    assert path.read_text() == "loud\n"
    assert not daemon.converge(programs(1, command=loud, stdout_logfile=log))["changed"]


def test_programs_that_exit_all_the_time_can_be_removed(daemon):
    """With startsecs=0, supervisord restarts them without limit and never gives up."""
    restless = {"mail": {**WORKER, "command": "/bin/true", "numprocs": 8}}
    daemon.converge(restless, wait=False)
    daemon.converge({}, purge=True)
    assert daemon.states() == {}


def test_missing_directories_are_made(daemon):
    given = {
        "mail": {
            **WORKER,
            "user": "www-data",
            "directory": str(daemon.directory / "srv"),
            "stdout_logfile": str(daemon.directory / "log/deep/mail.log"),
        }
    }
    result = daemon.converge(given)
    assert result["directories"] == [
        str(daemon.directory / "log/deep"),
        str(daemon.directory / "srv"),
    ]
    assert (daemon.directory / "srv").owner() == "www-data"
    assert (daemon.directory / "log").owner() == "root"
    assert (daemon.directory / "log/deep").owner() == "root"
    assert not daemon.converge(given)["changed"]


@pytest.mark.supervisords("all")
def test_the_articles_block_runs_twelve_processes(daemon):
    """numprocs=12, no process_name, one rotated log: Supervisor refuses it, users write it."""
    srv = daemon.directory / "srv"
    srv.mkdir()
    (srv / "myprocess.php").write_text("exec sleep 60\n")
    log = str(srv / "myprocess.log")
    block = {
        # No PHP is needed to show it.
        "command": f"sh {srv}/myprocess.php",
        "numprocs": 12,
        "directory": str(srv),
        "autostart": True,
        "autorestart": True,
        "stdout_logfile": log,
        "stderr_logfile": log,
        "stdout_logfile_maxbytes": "1MB",
        "stderr_logfile_maxbytes": "1MB",
    }
    daemon.converge({"myprocess": block})
    names = [f"myprocess_{number:02d}" for number in range(12)]
    assert daemon.names() == names
    assert set(daemon.states().values()) == {RUNNING}
    logs = ["myprocess.log", *(f"{name}.log" for name in names[1:])]
    assert sorted(path.name for path in srv.glob("*.log")) == logs
    assert not daemon.converge({"myprocess": block})["changed"]


@pytest.mark.supervisords("all")
def test_what_the_program_gets(daemon):
    """Quoting, percent signs, expansions and supervisord's environment, as the process sees them."""
    odd = {"A": "100% 'x' y", "B": 'say "hi", a=b', "C": "%(x)s"}
    out = daemon.directory / "out"
    daemon.converge(
        {
            "show": {
                "command": f'/bin/sh -c \'printf "%%s|" "$A" "$B" "$C" $0 >{out}\' '
                "%(program_name)s-%(process_num)02d-%(ENV_FROM_SUPERVISORD)s",
                "environment": odd,
                "startsecs": 0,
            }
        }
    )
    daemon.wait_for(lambda: out.exists() and out.read_text().count("|") == 4)
    assert out.read_text() == "100% 'x' y|say \"hi\", a=b|%(x)s|show-00-seen|"


def test_defaults_are_for_programs_that_do_not_say_otherwise(daemon):
    result = daemon.converge(
        {"mail": {"command": "/bin/sleep 60"}, "news": {"command": "/bin/sleep 60", "priority": 5}},
        defaults={"startsecs": 0, "priority": 7},
    )
    assert result["plan"]["added"] == ["mail_00", "news_00"]
    assert "priority=7\n" in daemon.files()["mail.conf"]
    assert "priority=5\n" in daemon.files()["news.conf"]


def test_no_environment_value_is_in_any_result(daemon):
    secret = "Hunter2-of-the-test"

    def given(value, **options):
        return {"mail": {**WORKER, "environment": {"PASSWORD": value}, **options}}

    for check_mode in (True, False):
        result = daemon.converge(given(secret), check_mode)
        assert "PASSWORD" in json.dumps(result)
        assert secret not in json.dumps(result)
    assert secret in daemon.files()["mail.conf"]
    for value in (secret + "2", f"{secret} ;", f"'\"{secret}"):
        try:
            shown = json.dumps(daemon.converge(given(value), check_mode=True))
        except GearvisorError as error:
            shown = f"{error} {error.details}"
        assert secret not in shown
    # One written into Gearvisor's file by hand is masked too.
    path = daemon.conf_d / "mail.conf"
    path.write_text(path.read_text().replace("user", "") + f"environment = X={secret}\n")
    result = daemon.converge(given("new"), check_mode=True)
    assert result["files"] == [str(path)]
    assert secret not in json.dumps(result)


def test_supervisord_down_is_told(idle, monkeypatch):
    monkeypatch.setattr(fleet, "_READY_SECONDS", 0)
    with pytest.raises(SupervisordUnavailable, match="Start it"):
        idle.converge(programs())
    assert idle.files() == {}


def test_supervisord_down_in_check_mode_still_plans(idle):
    """The play that is being checked may be what starts it."""
    assert idle.converge(programs(2), check_mode=True)["plan"]["added"] == ["mail_00", "mail_01"]
    with pytest.raises(GearvisorError, match="Supervisor refuses the programs"):
        idle.converge(programs(stopasgroup=True, killasgroup=False), check_mode=True)
    assert idle.files() == {}


def test_no_supervisor_on_the_host(idle):
    where = idle.where._replace(supervisord="/not/there")
    request = fleet.Request(programs(2))
    assert fleet.converge(request, where, check_mode=True)["plan"]["added"] == [
        "mail_00",
        "mail_01",
    ]
    with pytest.raises(GearvisorError, match=r"no /not/there\. Use the role supervisor first"):
        fleet.converge(request, where)


def _stop_first(daemon):
    daemon.rpc.stop_group("mail_00")
    daemon.wait_for(lambda: daemon.states()["mail_00:mail_00"] == STOPPED)


CHECKED = {
    "nothing": (programs(), {}, None),
    "scaled and changed": (
        {**programs(4, command="/bin/sleep 61"), "news": WORKER},
        {},
        None,
    ),
    "scaled down": (programs(1), {}, None),
    "purged": ({"news": WORKER}, {"purge": True}, None),
    "restarted": (programs(), {"restart": True}, None),
    "fingerprint": (programs(), {"fingerprint": ["/etc/hostname"]}, None),
    "stopped by hand": (programs(), {}, _stop_first),
    "other layout": (programs(), {"layout": "numprocs", "purge": True}, None),
}


@pytest.mark.parametrize(("given", "options", "prepare"), CHECKED.values(), ids=CHECKED)
def test_check_mode_touches_nothing_and_foretells_the_run(daemon, given, options, prepare):
    daemon.converge(programs())
    if prepare:
        prepare(daemon)
    before = daemon.snapshot()
    foretold = daemon.converge(given, check_mode=True, **options)
    assert daemon.snapshot() == before
    done = daemon.converge(given, **options)
    del done["processes"]
    done.pop("seconds", None)
    assert foretold == done
    assert done["changed"] == (daemon.snapshot() != before)


def test_check_mode_makes_no_directory(daemon):
    given = {"mail": {**WORKER, "stdout_logfile": str(daemon.directory / "log/a.log")}}
    result = daemon.converge(given, check_mode=True)
    assert result["directories"] == [str(daemon.directory / "log")]
    assert not (daemon.directory / "log").exists()


def test_check_mode_only_warns_of_what_an_earlier_task_may_bring(daemon):
    given = {"mail": {"command": "/not/there/yet", "user": "not-there-yet"}}
    result = daemon.converge(given, check_mode=True, fingerprint=["/not/there"])
    assert result["plan"]["added"] == ["mail_00"]
    assert any("/not/there/yet" in warning for warning in result["warnings"])
    assert any("not-there-yet" in warning for warning in result["warnings"])


@pytest.fixture(scope="module")
def running(request):
    """{executable: Daemon} with a fleet that runs, for calls that must leave it as it is."""
    started = {}
    yield started
    for daemon in started.values():
        daemon.stop()
        shutil.rmtree(daemon.directory)


OTHERS = "[program:x]\ncommand=/bin/true\nautostart=false\n"
# Other files in conf.d, what is asked for, and what the user reads.
BAD = {
    "no mapping": ({}, {"mail": None}, {}, ["programs.mail: None is not a mapping"]),
    "no command": ({}, {"mail": {"numprocs": 2}}, {}, ["programs.mail.command: ''"]),
    "unknown option": ({}, programs(autorestat=True), {}, ["Did you mean 'autorestart'?"]),
    "wrong type": ({}, programs(numprocs="x"), {}, ["programs.mail.numprocs: 'x'"]),
    "line break": ({}, programs(command="/bin/x\nuser=root"), {}, ["line break"]),
    "comment": ({}, programs(command="/bin/x a ; b"), {}, ["begins a comment"]),
    "percent": ({}, programs(command="date +%Y"), {}, ["'%%'"]),
    "slash in the name": ({}, {"../mail": WORKER}, {}, ["not a usable program name"]),
    "one name for two": ({}, programs(2, process_name="x"), {}, ["gives 2 processes one name"]),
    "environment": ({}, programs(environment={"A": "\"'"}), {}, ["programs.mail.environment.A"]),
    "no such user": ({}, programs(user="nobody-here"), {}, ["does not exist on this host"]),
    "no such command": ({}, programs(command="/not/there"), {}, ["not on this host"]),
    "relative directory": ({}, programs(directory="srv"), {}, ["is not an absolute path"]),
    "unknown variable": (
        {},
        programs(command="/bin/sleep %(ENV_NOT_SET)s"),
        {},
        ["ENV_NOT_SET", "expanded in section 'program:"],
    ),
    "kill only one": (
        {},
        programs(stopasgroup=True, killasgroup=False),
        {},
        ["Supervisor refuses the programs: Cannot set stopasgroup=true and killasgroup=false"],
    ),
    "shared log": (
        {},
        {name: {**WORKER, "stdout_logfile": "/tmp/x.log"} for name in ("a", "b")},
        {},
        ["programs.b.stdout_logfile", "is a log of a_00 too"],
    ),
    "file as a directory": (
        {},
        programs(stdout_logfile="/etc/hostname/sub/x.log"),
        {},
        ["programs.mail.stdout_logfile", "below a file"],
    ),
    "directories not wanted": (
        {},
        programs(directory="/not-there"),
        {"create_directories": False},
        ["create_directories: False leaves out /not-there"],
    ),
    "no such fingerprint": ({}, programs(), {"fingerprint": ["/not/there"]}, ["fingerprint: "]),
    "one group in two programs": (
        {},
        {name: {**WORKER, "process_name": "same"} for name in ("a", "b")},
        {},
        ["same would be defined twice", "a.conf", "b.conf"],
    ),
    "their file of that name": (
        {"news.conf": OTHERS},
        {"news": WORKER},
        {},
        ["programs: 'news' would replace", "did not write", "choose another name"],
    ),
    "their section of that name": (
        {"other.conf": "[program:news_00]\ncommand=/bin/true\nautostart=false\n"},
        {"news": WORKER},
        {},
        ["news_00 would be defined twice", "other.conf", "news.conf", "Rename the program"],
    ),
    "their listener of that name": (
        {"other.conf": "[eventlistener:news_00]\ncommand=/bin/true\nevents=TICK_60\n"},
        {"news": WORKER},
        {},
        ["news_00 would be defined twice", "[eventlistener:news_00]"],
    ),
    "their broken file": (
        {"broken.conf": "[program:x]\ncommand=/bin/true\nnumprocs=2\n"},
        programs(4),
        {},
        ["conf.d/broken.conf is broken", "not managed by Gearvisor", "Nothing was written"],
    ),
    "their broken secret": (
        {"broken.conf": "[program:x]\ncommand=/bin/true\nenvironment=A=Hunter2@x\n"},
        programs(4),
        {},
        ["conf.d/broken.conf is broken", "not shown"],
    ),
    "their broken file, nothing new": (
        {"broken.conf": "no section\n"},
        programs(),
        {},
        ["conf.d/broken.conf is broken"],
    ),
    "their unreadable file": (
        {"broken.conf": None},
        programs(4),
        {},
        ["conf.d/broken.conf is broken"],
    ),
}


@pytest.mark.parametrize(("theirs", "given", "options", "told"), BAD.values(), ids=BAD)
def test_bad_input_leaves_everything_as_it_was(
    running, supervisord_path, new_daemon, theirs, given, options, told
):
    if supervisord_path not in running:
        running[supervisord_path] = new_daemon(supervisord_path)
        running[supervisord_path].start()
        running[supervisord_path].converge(programs())
    daemon = running[supervisord_path]
    for name, text in theirs.items():
        if text is None:
            (daemon.conf_d / name).mkdir()
        else:
            (daemon.conf_d / name).write_text(text)
    try:
        before = daemon.pids(), sorted(os.listdir(daemon.conf_d)), daemon.mail()
        with pytest.raises(GearvisorError) as caught:
            daemon.converge(given, **options)
        for part in told:
            assert part in str(caught.value)
        assert "Hunter2" not in str(caught.value)
        assert (daemon.pids(), sorted(os.listdir(daemon.conf_d)), daemon.mail()) == before
        assert sorted(path.name for path in daemon.directory.iterdir() if path.is_dir()) == [
            "auto",
            "conf.d",
        ]
    finally:
        for name, text in theirs.items():
            if text is None:
                (daemon.conf_d / name).rmdir()
            else:
                (daemon.conf_d / name).unlink()
    assert not daemon.converge(programs())["changed"]


def test_a_broken_main_configuration_is_told(daemon):
    daemon.config.write_text("no section\n")
    with pytest.raises(GearvisorError, match=r"supervisord\.conf is broken"):
        daemon.converge(programs())


def test_a_main_configuration_that_does_not_include_our_files_is_told(daemon):
    daemon.config.write_text(daemon.config.read_text().replace("*.conf", "*.ini"))
    with pytest.raises(GearvisorError, match=r"does not include the files in .*\[include\]"):
        daemon.converge(programs())
    assert daemon.files() == {}


@pytest.fixture
def code(tmp_path):
    (tmp_path / "app/lib").mkdir(parents=True)
    (tmp_path / "app/main.py").write_text("1")
    (tmp_path / "app/lib/x.py").write_text("1")
    return tmp_path / "app"


def test_event_listeners_and_fcgi_programs_come_in_the_same_call(daemon):
    """One section each, started, kept on a rerun, and purged with the rest."""
    listener = daemon.directory / "listener.py"
    heard = daemon.directory / "heard"
    listener.write_text(
        "import sys\n"
        "while True:\n"
        "    sys.stdout.write('READY\\n'); sys.stdout.flush()\n"
        "    header = dict(word.split(':') for word in sys.stdin.readline().split())\n"
        "    payload = sys.stdin.read(int(header['len']))\n"
        f"    open({str(heard)!r}, 'a').write(payload + '\\n')\n"
        "    sys.stdout.write('RESULT 2\\nOK'); sys.stdout.flush()\n"
    )
    others = {
        "event_listeners": {
            "ear": {"command": f"python3 {listener}", "events": ["PROCESS_STATE_RUNNING"]}
        },
        "fcgi_programs": {
            "web": {
                **WORKER,
                "numprocs": 2,
                "socket": f"unix://{daemon.directory}/web.sock",
            }
        },
    }
    result = daemon.converge(programs(1), **others)
    assert sorted(result["plan"]["added"]) == ["ear", "mail_00", "web"]
    assert sorted(daemon.pids()) == ["ear:ear", "mail_00:mail_00", "web:web_00", "web:web_01"]
    before = daemon.pids()
    result = daemon.converge(programs(2), **others)
    assert result["plan"]["added"] == ["mail_01"]
    assert {name: pid for name, pid in daemon.pids().items() if name in before} == before
    daemon.wait_for(lambda: "processname:mail_01" in heard.read_text())
    daemon.converge({}, purge=True)
    assert daemon.names() == []


def test_one_name_for_two_kinds_is_refused(daemon):
    with pytest.raises(GearvisorError, match=r"^fcgi_programs: 'mail' is the name of another"):
        daemon.converge(
            programs(1), fcgi_programs={"mail": {**WORKER, "socket": "tcp://localhost:9000"}}
        )
    assert daemon.names() == []


@pytest.fixture
def new_user():
    name = "gearvisor-trial"
    yield name
    subprocess.run(["userdel", "--force", name], check=False, capture_output=True)


def test_users_to_be_created_are(daemon, new_user):
    given = programs(1, user=new_user)
    with pytest.raises(
        GearvisorError, match=r"user: 'gearvisor-trial' does not exist on this host"
    ):
        daemon.converge(given)
    foretold = daemon.converge(given, check_mode=True, create_users=(new_user,))
    assert foretold["users"] == [new_user]
    assert not [text for text in foretold["warnings"] if new_user in text]
    with pytest.raises(KeyError):
        pwd.getpwnam(new_user)
    assert daemon.converge(given, create_users=(new_user,))["users"] == [new_user]
    assert pwd.getpwnam(new_user).pw_shell == "/usr/sbin/nologin"
    assert set(daemon.states().values()) == {RUNNING}
    assert not daemon.converge(given, create_users=(new_user,))["changed"]


def test_a_created_user_goes_when_the_programs_do_not_start(daemon, new_user):
    with pytest.raises(GearvisorError, match="does not start"):
        daemon.converge({"bad": {**BROKEN, "user": new_user}}, create_users=(new_user,))
    with pytest.raises(KeyError):
        pwd.getpwnam(new_user)


@pytest.mark.parametrize("layout", ["processes", "numprocs"])
def test_expanded_environment_is_what_supervisors_manual_says(daemon, layout):
    variables = {
        "PATH": "/venv/bin:%(ENV_PATH)s",
        "NUMBER": "%(process_num)02d",
        "HOST": "%(host_node_name)s",
        "PROGRAM": "%(program_name)s",
        "FORMAT": "%%(message)s",
    }
    program = {
        "command": "/bin/sleep 60",
        "numprocs": 2,
        "environment": {"DATE": "+%Y", "LIST": ["it's", 1]},
        "environment_expanded": variables,
    }
    daemon.converge([{"name": "mail", **program}], layout=layout)
    seen = {}
    for name, pid in daemon.pids().items():
        pairs = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
        seen[name[-2:]] = dict(pair.partition("=")[::2] for pair in pairs)
    for number, environment in seen.items():
        assert environment["PATH"] == "/venv/bin:" + daemon.environment["PATH"]
        assert environment["NUMBER"] == number
        assert environment["HOST"] == platform.node()
        assert environment["PROGRAM"] == "mail"
        assert environment["FORMAT"] == "%(message)s"
        assert environment["DATE"] == "+%Y"
        assert json.loads(environment["LIST"]) == ["it's", 1]
    assert set(seen) == {"00", "01"}
    assert not daemon.converge({"mail": program}, layout=layout)["changed"]
