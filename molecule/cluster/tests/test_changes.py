"""Certificates are rotated, hosts come and go, and all of it is taken away: by one run each."""

import subprocess

import pytest

PERIMETER = "molecule/cluster/perimeter.yml"
GUEST = "--inventory=molecule/cluster/files/guest.yml"
FIRST, SECOND = "127.0.0.1:4740", "127.0.0.1:4741"
KEY = "/etc/gearvisor/tunnel/key.pem"


def connections(host):
    """Return the peers that are connected to the tunnel."""
    lines = host.check_output("ss --no-header --tcp --numeric state established sport = :4731")
    return {line.split()[3] for line in lines.splitlines()}


@pytest.mark.on("gearman_workers", "gearman_job_servers")
def test_keys_are_stunnels_alone(host):
    key = host.file(KEY)
    assert (key.user, key.mode) == ("stunnel4", 0o600)
    assert "PRIVATE KEY" in key.content_string


def test_rotation_is_noticed_by_nobody(lab, load):
    hosts = [lab[name] for name in ("job1", "job2", "worker1", "worker2")]
    keys = [host.file(KEY).content_string for host in hosts]
    before = connections(lab["job1"])
    with load(0) as jobs:
        lab.play(PERIMETER, "--extra-vars=gearman_tunnel_rotate=true")
    assert not jobs.counts["refused"] and not jobs.counts["failed"]
    assert before and before <= connections(lab["job1"])
    after = [host.file(KEY).content_string for host in hosts]
    assert not set(keys) & set(after) and len(set(after)) == len(hosts)


@pytest.mark.slow
def test_a_host_comes_and_goes(lab):
    job = {"function": "reverse_php", "data": "desrever", "servers": [SECOND]}
    lab.play(PERIMETER, GUEST)
    assert lab.module("stranger", "gearman_job", job)["result"] == "reversed"
    hold = ["podman", "exec", "--interactive", lab.container("stranger")]
    hold += ["python3", "/srv/cluster/hold.py", *FIRST.split(":")]
    with subprocess.Popen(hold, stdin=-1, stdout=-1, text=True, bufsize=1) as held:

        def ask():
            held.stdin.write("\n")
            return held.stdout.readline()

        assert ask().startswith("OK ")
        recap, _output = lab.play(PERIMETER)
        changed = {name: counts["changed"] for name, counts in recap.items()}
        assert changed == {"job1": 2, "job2": 2, "worker1": 0, "worker2": 0}
        assert ask().startswith("nothing: ")
    assert lab.module("stranger", "gearman_job", job)["failed"]


@pytest.mark.slow
def test_a_job_server_boots_with_its_allow_list(lab):
    lab.restart("job1")
    assert lab["job1"].run("nft list table inet gearvisor").rc == 0
    knock = "python3 /srv/cluster/knock.py job1 4731 plain version"
    assert lab["stranger"].check_output(knock) == "nothing: [Errno 111] Connection refused"
    submit = f"/opt/gearvisor/venv/bin/gearvisor submit --server {FIRST} reverse_php desrever"
    lab.wait_until(lambda: lab["worker1"].run(submit).stdout == "reversed")


@pytest.mark.slow
def test_absent_takes_it_all_away(lab):
    absent = [
        "--extra-vars=gearman_tunnel_state=absent",
        "--extra-vars=gearman_firewall_state=absent",
    ]
    limit = "--limit=job2,worker2"
    try:
        lab.play(PERIMETER, *absent, limit)
        for name in ("job2", "worker2"):
            host = lab[name]
            assert not host.file("/etc/gearvisor").exists
            assert host.run("pgrep -x stunnel4").rc != 0
        assert lab["job2"].run("nft list table inet gearvisor").rc != 0
        assert not lab["job2"].file("/etc/systemd/system/gearman-firewall.service").exists
        recap, _output = lab.play(PERIMETER, *absent, limit)
        assert {counts["changed"] for counts in recap.values()} == {0}
    finally:
        lab.play(PERIMETER)
