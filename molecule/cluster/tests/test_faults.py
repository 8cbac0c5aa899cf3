"""Jobs flow while servers and hosts fail: none that was accepted is lost, and no call hangs."""

import subprocess
import time

import pytest

SERVERS = ("job1", "job2")


def answers(host):
    answer = host.run("python3 /srv/cluster/knock.py 127.0.0.1 4730 plain version").stdout
    return answer.startswith("OK")


def test_a_job_server_is_killed_and_comes_back(lab, load):
    with load(12):
        for server in SERVERS:
            old = lab[server].check_output("pgrep -x gearmand")
            lab[server].check_output("pkill -KILL -x gearmand")
            lab.wait_until(lambda server=server: answers(lab[server]))
            assert lab[server].check_output("pgrep -x gearmand") != old
            time.sleep(2)


def test_both_job_servers_are_restarted_one_at_a_time(lab, load):
    with load(10):
        for server in SERVERS:
            lab[server].check_output("systemctl restart gearman-job-server")
            lab.wait_until(lambda server=server: answers(lab[server]))
            time.sleep(1)


@pytest.mark.slow
@pytest.mark.parametrize("playbook", ["drain", "upgrade"])
def test_the_playbooks_take_one_job_server_at_a_time(lab, load, playbook):
    """They let jobs finish: no call that was accepted goes unanswered."""
    gearmand = "/usr/sbin/gearmand"
    before = [lab[server].check_output("pgrep -x gearmand") for server in SERVERS]
    for server in SERVERS:
        # What dpkg does to a program that runs; Debian has one version of gearmand at a time.
        lab[server].check_output(f"cp -p {gearmand} {gearmand}.new && mv {gearmand}.new {gearmand}")
    with load(0) as jobs:
        lab.play(f"playbooks/{playbook}.yml")
    after = [lab[server].check_output("pgrep -x gearmand") for server in SERVERS]
    assert all(old != new for old, new in zip(before, after, strict=True))
    told = {reason.partition(" ")[0] for reason in jobs.counts["failed"] + jobs.counts["refused"]}
    assert told <= {"SubmitError:", "ServerUnavailable:"}


@pytest.mark.slow
def test_a_worker_host_stands_still(lab, load):
    # Not from there: a client that stands still cannot look at its clock.
    with load(30, clients=["worker1"]):
        subprocess.run(["podman", "pause", lab.container("worker2")], check=True, stdout=-1)
        time.sleep(15)
        subprocess.run(["podman", "unpause", lab.container("worker2")], check=True, stdout=-1)


@pytest.mark.slow
def test_a_worker_host_is_cut_off(lab, load):
    address = lab["worker2"].check_output("hostname --all-ip-addresses").strip()
    chain = f"chain input {{ type filter hook input priority -10; ip saddr {address} drop; }};"
    with load(35):
        for server in SERVERS:
            lab[server].check_output(f"nft 'table inet cut_off {{ {chain} }}'")
        time.sleep(15)
        for server in SERVERS:
            lab[server].check_output("nft delete table inet cut_off")
