"""What a second look, a check and a restart of the host do to what runs: nothing."""

import pytest

pytestmark = pytest.mark.on("bookworm", "plain")


def pids(host):
    """Return {process: pid} of everything Supervisor runs."""
    lines = [line.split() for line in host.check_output("supervisorctl status").splitlines()]
    return {words[0]: words[3].rstrip(",") for words in lines}


def test_check_and_diff_report_nothing_and_touch_no_process(host, lab):
    name = host.check_output("hostname")
    before = pids(host)
    recap, output = lab.play("playbooks/site.yml", "--check", "--diff", "--limit", name)
    assert recap[name]["changed"] == 0
    assert not [line for line in output.splitlines() if line.startswith(("+", "-"))]
    assert pids(host) == before


def test_a_second_run_touches_no_process(host, lab):
    name = host.check_output("hostname")
    before = pids(host)
    recap, _output = lab.play("playbooks/site.yml", "--limit", name)
    assert recap[name]["changed"] == 0
    assert pids(host) == before
