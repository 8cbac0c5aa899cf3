"""Certificates are rotated, hosts come and go, and all of it is taken away: by one run each."""

import subprocess

import pytest

PERIMETER = "molecule/cluster/perimeter.yml"
GUEST = "--inventory=molecule/cluster/files/guest.yml"
FIRST, SECOND = "127.0.0.1:4740", "127.0.0.1:4741"
TUNNEL = "/etc/gearvisor/tunnel"
KEY = f"{TUNNEL}/key.pem"


@pytest.mark.on("gearman_workers", "gearman_job_servers")
def test_keys_are_stunnels_alone(host):
    key = host.file(KEY)
    assert (key.user, key.mode) == ("stunnel4", 0o600)
    assert "PRIVATE KEY" in key.content_string


def knock(lab, client, keys):
    """Ask the first job server for its version, with the certificate and key of a directory."""
    ask = f"python3 /srv/cluster/knock.py job1 4731 tls {TUNNEL}/ca.pem"
    return lab[client].check_output(f"{ask} {keys}/certificate.pem {keys}/key.pem")


def test_a_rotation_revokes_every_old_key(lab, load):
    """And no job is lost: each submission finds a server, and what is cut off runs again."""
    hosts = [lab[name] for name in ("job1", "job2", "worker1", "worker2")]
    for host in hosts:
        host.check_output(f"rm -rf /tmp/old && cp -r {TUNNEL} /tmp/old")
    keys = [host.file(KEY).content_string for host in hosts]
    hold = ["podman", "exec", "--interactive", lab.container("worker1")]
    hold += ["python3", "/srv/cluster/hold.py", *FIRST.split(":")]
    with subprocess.Popen(hold, stdin=-1, stdout=-1, text=True, bufsize=1) as held:

        def ask():
            held.stdin.write("\n")
            return held.stdout.readline()

        assert ask().startswith("OK ")
        with load(0) as jobs:
            lab.play(PERIMETER, "--extra-vars=gearman_tunnel_rotate=true")
        # Each finds a server: a client that finds none names both. One that was on its way when its
        # connection ended is told so, since nothing shows whether the server took it.
        for reason in jobs.counts["refused"]:
            assert (FIRST in reason) != (SECOND in reason), reason
        assert ask().startswith("nothing: ")
    after = [host.file(KEY).content_string for host in hosts]
    assert not set(keys) & set(after) and len(set(after)) == len(hosts)
    for client in ("worker1", "worker2", "job2"):
        assert knock(lab, client, "/tmp/old").startswith("nothing: ")
        assert knock(lab, client, TUNNEL).startswith("OK ")
    recap, _output = lab.play(PERIMETER)
    assert {counts["changed"] for counts in recap.values()} == {0}


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
        # The first host's third is the authority, which removes the certificate.
        assert changed == {"job1": 3, "job2": 2, "worker1": 0, "worker2": 0}
        assert ask().startswith("nothing: ")
    assert lab.module("stranger", "gearman_job", job)["failed"]
    key = lab["stranger"].file(KEY).content_string
    lab.play(PERIMETER, GUEST)
    assert lab["stranger"].file(KEY).content_string != key
    lab.play(PERIMETER)


@pytest.mark.slow
def test_a_job_server_boots_with_its_allow_list(lab):
    lab.restart("job1")
    assert lab["job1"].run("nft list table inet gearvisor").rc == 0
    knock = "python3 /srv/cluster/knock.py job1 4731 plain version"
    assert lab["stranger"].check_output(knock) == "nothing: [Errno 111] Connection refused"
    submit = f"/opt/gearvisor/venv/bin/gearvisor submit --server {FIRST} reverse_php desrever"
    lab.wait_until(lambda: lab["worker1"].run(submit).stdout == "reversed")


def stranger(lab):
    """Return what a host outside of the inventory gets."""
    return lab["stranger"].check_output("python3 /srv/cluster/knock.py job1 4731 plain version")


@pytest.mark.parametrize("verb", ["start", "reload", "stop"])
def test_debians_own_unit_does_not_take_the_allow_list_away(lab, verb):
    job1 = lab["job1"]
    gearmand = job1.check_output("pgrep -x gearmand")
    job1.check_output(f"systemctl {verb} nftables")
    assert stranger(lab) == "nothing: [Errno 111] Connection refused"
    assert job1.check_output("pgrep -x gearmand") == gearmand


@pytest.mark.slow
def test_without_its_allow_list_a_job_server_does_not_start(lab):
    job1 = lab["job1"]
    job1.check_output("echo broken >/etc/gearvisor/firewall.nft")
    subprocess.run(["podman", "restart", lab.container("job1")], check=True, stdout=-1)
    lab.wait_until(lambda: job1.run("systemctl is-failed gearman-firewall").rc == 0)
    lab.wait_until(lambda: not job1.check_output("systemctl list-jobs --no-legend"))
    assert job1.run("pgrep -x gearmand").rc != 0 and job1.run("pgrep -x stunnel4").rc != 0
    lab.play("playbooks/site.yml", "--limit=job1")
    assert job1.run("pgrep -x gearmand").rc == 0
    assert stranger(lab) == "nothing: [Errno 111] Connection refused"


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
