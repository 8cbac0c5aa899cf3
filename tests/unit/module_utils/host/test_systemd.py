# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import systemd


@pytest.mark.parametrize("there", [True, False])
def test_runs(tmp_path, monkeypatch, there):
    monkeypatch.setattr(systemd, "RUNS", str(tmp_path if there else tmp_path / "missing"))
    assert systemd.runs() is there


SHOWN = "LoadState=loaded\nUnitFileState=enabled\nMainPID=71\nDescription=a=b\n"


class Run:
    """Like AnsibleModule.run_command on a host whose systemctl prints `shown`."""

    def __init__(self, shown="", refuses=()):
        self.shown = shown
        self.refuses = refuses
        self.asked = []

    def __call__(self, argv):
        self.asked.append(" ".join(argv))
        if argv[0] == "journalctl":
            return 0, "the last line\n", ""
        if argv[1] == "show":
            return 0, self.shown, ""
        return (1, "", "Unit is odd.\n") if argv[1] in self.refuses else (0, "", "")


@pytest.mark.parametrize(
    ("shown", "pid", "enabled", "loaded"),
    [
        (SHOWN, 71, True, True),
        ("LoadState=not-found\nUnitFileState=\nMainPID=0\n", 0, False, False),
        ("LoadState=masked\nUnitFileState=masked\nMainPID=0\n", 0, False, False),
        ("", 0, False, False),
    ],
)
def test_what_a_unit_is(shown, pid, enabled, loaded):
    unit = systemd.Unit("jobs.service", Run(shown))
    assert (unit.pid(), unit.enabled(), unit.loaded()) == (pid, enabled, loaded)


def test_values_may_hold_equals_signs():
    assert systemd.Unit("jobs.service", Run(SHOWN)).show("Description")["Description"] == "a=b"


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("enable", ["systemctl enable --quiet jobs.service"]),
        ("start", ["systemctl reset-failed jobs.service", "systemctl start jobs.service"]),
        ("restart", ["systemctl reset-failed jobs.service", "systemctl restart jobs.service"]),
        ("reread", ["systemctl daemon-reload"]),
    ],
)
def test_what_is_asked_of_systemd(method, asked):
    run = Run(SHOWN)
    getattr(systemd.Unit("jobs.service", run), method)()
    assert run.asked == asked


@pytest.mark.parametrize(
    ("shown", "removed"), [(SHOWN, True), ("LoadState=not-found\n", False), ("", False)]
)
def test_removes_only_what_is_there(shown, removed):
    run = Run(shown)
    systemd.Unit("jobs.service", run).remove()
    assert ("systemctl disable --quiet --now jobs.service" in run.asked) is removed


def test_a_start_counts_though_there_are_no_failures_to_forget():
    run = Run(SHOWN, refuses=("reset-failed",))
    systemd.Unit("jobs.service", run).start()
    assert run.asked[-1] == "systemctl start jobs.service"


def test_what_fails_is_reported_with_the_log_and_where_to_look():
    unit = systemd.Unit("jobs.service", Run(SHOWN, refuses=("reload",)))
    with pytest.raises(GearvisorError) as caught:
        unit.do("reload")
    assert str(caught.value) == (
        "'systemctl reload jobs.service' failed: Unit is odd. "
        "See 'systemctl status jobs.service' and 'journalctl -u jobs.service' on the host"
    )
    assert caught.value.details == {"log": "the last line"}
