"""How systemctl's output is interpreted; the scenarios try the verbs on a real systemd."""

from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.service import (
    Preview,
    Service,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.unit import Unit

SERVICE = Service("one", "/usr/bin/sleep", "one_fleet", {"/etc/one.conf": "text"}, {})


def unit(shown):
    """The Unit on a host whose systemctl shows these lines; .ran has its command lines."""
    ran = []

    def run(argv, **_options):
        ran.append(argv)
        return 0, shown if argv[1] == "show" else "", ""

    result = Unit(SERVICE, run)
    result.ran = ran
    return result


@pytest.mark.parametrize(
    ("shown", "crashed"),
    [
        ("SubState=running\nResult=success\n", False),
        ("SubState=auto-restart\nResult=exit-code\n", True),
        ("SubState=failed\nResult=signal\n", True),
        # Up again after a crash.
        ("SubState=running\nResult=exit-code\n", False),
        # systemctl failed.
        ("", False),
    ],
)
def test_crashed(shown, crashed):
    assert unit(shown).crashed() is crashed


def test_preview():
    assert unit("UnitFileState=enabled\n").preview(True) == Preview()
    assert unit("UnitFileState=disabled\n").preview(True).lines == ("enable one.service",)
    assert unit("UnitFileState=disabled\n").preview(False) == Preview()
    with pytest.raises(GearvisorError, match=r"systemctl unmask one\.service"):
        unit("UnitFileState=masked\n").preview(True)
    assert unit("UnitFileState=masked\n").preview(False) == Preview()


def test_preparing_touches_no_process():
    keeper = unit("UnitFileState=disabled\n")
    keeper.prepare()
    verbs = [argv[1] for argv in keeper.ran]
    assert verbs == ["daemon-reload", "show", "enable"]


def test_a_process_of_another_program_is_not_its():
    assert unit("MainPID=1\n").process() is None
    assert unit("MainPID=0\n").process() is None
