from __future__ import annotations

import glob
import os
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.program import Program
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.service import (
    Preview,
    Service,
)

SLEEP = "/usr/bin/sleep"


class Rival:
    """What Debian's own service is to the program: enabled, and running or not."""

    def __init__(self):
        self.at_boot = True
        self.running = None

    def process(self):
        return self.running

    def enabled(self):
        return self.at_boot

    def disable(self):
        self.at_boot = False

    def remove(self):
        self.at_boot = False
        self.running = None


def service(command=f"{SLEEP} 600", rival=None, **options):
    program = {"command": command, "process_name": "%(program_name)s", "startsecs": 0, **options}
    return Service("one", SLEEP, "one_fleet", {}, program, rival)


def pid(keeper):
    """The pid once the program runs: supervisord's own fork comes first."""
    deadline = time.monotonic() + 60
    while (process := keeper.process()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process.pid


def files(where):
    return [os.path.basename(path) for path in glob.glob(f"{where.directory}/*")]


def test_its_life(where):
    keeper = Program(service(), where)
    assert keeper.files() == {}
    assert not keeper.enabled()
    assert keeper.process() is None
    planned = keeper.preview(True)
    assert not planned.redefines
    assert [os.path.basename(path) for path in planned.paths] == ["one.conf"]
    assert files(where) == []

    keeper.start()
    first = pid(keeper)
    assert keeper.enabled()
    assert not keeper.crashed()
    assert keeper.preview(True) == Preview()
    keeper.start()
    assert pid(keeper) == first

    keeper.restart()
    second = pid(keeper)
    assert second != first

    keeper.stop()
    assert keeper.process() is None
    assert keeper.enabled()
    keeper.start()
    assert pid(keeper) != second

    planned = keeper.preview(False)
    assert planned.lines == (f"remove {where.directory}/one.conf",)
    keeper.remove()
    keeper.reread()
    assert keeper.process() is None
    assert files(where) == []
    assert keeper.preview(False) == Preview()


def test_another_definition_replaces_what_runs(where):
    keeper = Program(service(), where)
    keeper.start()
    first = pid(keeper)
    other = Program(service(f"{SLEEP} 601"), where)
    assert other.preview(True).redefines
    other.start()
    assert pid(other) != first
    assert not other.preview(True).redefines


def test_reload_sends_sighup(where, tmp_path):
    script = f"trap 'echo told >>{tmp_path}/log' HUP; echo up >{tmp_path}/log; while :; do sleep 0.1; done"
    keeper = Program(service(f'/bin/sh -c "{script}"')._replace(executable="/bin/sh"), where)
    keeper.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first = pid(keeper)
    keeper.reload(keeper.process())
    while "told" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert pid(keeper) == first


def test_one_that_ends_at_once_is_seen_and_can_be_started_again(where):
    keeper = Program(service("/bin/sh -c 'echo why; exit 3'", startsecs=5), where)
    keeper.start()
    deadline = time.monotonic() + 60
    while not keeper.crashed():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "why" in keeper.last_lines()
    mended = Program(service(), where)
    mended.start()
    pid(mended)
    assert not mended.crashed()


def test_a_rival_gives_way(where):
    rival = Rival()
    keeper = Program(service(rival=rival), where)
    rival.running = keeper
    assert keeper.process() is keeper
    assert keeper.preview(True).lines == ("disable Debian's own service one",)
    assert rival.enabled()
    keeper.start()
    assert rival.running is None
    assert not rival.enabled()
    assert pid(keeper)


def test_the_limit_of_files_is_supervisords(where):
    assert Program(service(), where).hard_file_limit() > 100


@pytest.mark.parametrize("check_mode", [True, False])
def test_no_supervisor_on_the_host(where, tmp_path, check_mode):
    nowhere = where._replace(supervisord=str(tmp_path / "none"))
    keeper = Program(service(), nowhere, check_mode)
    assert keeper.process() is None
    assert not keeper.enabled()
    assert keeper.preview(False) == Preview()
    if not check_mode:
        with pytest.raises(Exception, match="Supervisor is not on this host"):
            keeper.preview(True)
