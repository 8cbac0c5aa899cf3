"""What goes over the wire, and who gets in."""

import os
import subprocess
from pathlib import Path

import pytest

SERVERS = ("job1", "job2")
GEARMAND, TUNNEL, SSH = 4730, 4731, 22
KEYS = "/etc/gearvisor/tunnel/"
OWN = f"{KEYS}certificate.pem {KEYS}key.pem"
GEARVISOR = "/opt/gearvisor/venv/bin/gearvisor"


def knock(lab, client, how, server="job1", port=TUNNEL):
    """Ask for the version, from a host; return the answer."""
    return lab[client].check_output(f"python3 /srv/cluster/knock.py {server} {port} {how}")


@pytest.mark.on("gearman_workers")
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("client", ["python", "php"])
def test_round_trips_through_every_server(host, server, client):
    local = f"127.0.0.1:{4740 + SERVERS.index(server)}"
    command = {
        "python": f"{GEARVISOR} submit --server {local} reverse_php",
        "php": f"GEARVISOR_SERVERS={local} php /opt/gearvisor/php/client.php reverse_python",
    }[client]
    assert host.check_output(f"{command} desrever").strip() == "reversed"


@pytest.mark.parametrize("client", SERVERS)
def test_round_trips_from_the_job_servers(lab, client):
    for number, server in enumerate(SERVERS):
        address = "127.0.0.1:4730" if server == client else f"127.0.0.1:{4740 + number}"
        job = {"function": "reverse_python", "data": "desrever", "servers": [address]}
        assert lab.module(client, "gearman_job", job)["result"] == "reversed"


@pytest.mark.on("gearman_workers")
def test_workers_know_both_servers(host):
    lines = host.check_output("cat /etc/supervisor/conf.d/tasks.conf").splitlines()
    environments = [line for line in lines if line.startswith("environment=")]
    assert len(environments) == 3
    for environment in environments:
        assert 'GEARVISOR_SERVERS="127.0.0.1:4740,127.0.0.1:4741"' in environment


@pytest.mark.on("gearman_job_servers")
def test_gearmand_itself_is_on_loopback(host):
    assert host.socket(f"tcp://127.0.0.1:{GEARMAND}").is_listening
    assert not host.socket(f"tcp://0.0.0.0:{GEARMAND}").is_listening


def test_no_payload_can_be_read_on_the_wire(lab):
    secret, control = "seen-by-nobody", "seen-by-all"
    capture = ["podman", "exec", "--interactive", lab.container("job1")]
    capture += ["python3", "/srv/cluster/capture.py", "/tmp/wire"]
    with subprocess.Popen(capture, stdin=-1, stdout=-1, text=True) as running:
        assert running.stdout.readline() == "ready\n"
        for client in ("worker1", "worker2"):
            submit = f"{GEARVISOR} submit --server 127.0.0.1:4740 record {secret}"
            assert lab[client].check_output(submit) == secret
        # In the clear on purpose: it shows that the capture sees what there is to be seen.
        knock(lab, "worker1", f"plain {control}")
        running.communicate("", timeout=60)
    wire = lab["job1"].check_output("cat -v /tmp/wire")
    assert control in wire
    assert secret not in wire
    assert "record" not in wire


def test_one_with_a_certificate_is_answered(lab):
    assert knock(lab, "worker1", f"tls {KEYS}ca.pem {OWN}").startswith("OK 1.1")


def test_python_needs_no_stunnel_of_its_own(lab):
    """A worker and a client that speak TLS themselves, straight to the job server."""
    tls = f"--tls-ca {KEYS}ca.pem --tls-cert {KEYS}certificate.pem --tls-key {KEYS}key.pem"
    submit = f"submit --timeout 60 --server job2:{TUNNEL}"
    worker = ["podman", "exec", "--workdir=/srv/cluster", lab.container("worker1"), "timeout", "60"]
    worker += [GEARVISOR, "worker", "--server", f"job2:{TUNNEL}", *tls.split(), "--max-jobs", "1"]
    with subprocess.Popen([*worker, "native=cluster:record"]):
        answer = lab["worker1"].check_output(f"{GEARVISOR} {submit} {tls} native direct")
        assert answer == "direct"
    refused = lab["worker1"].run(f"{GEARVISOR} {submit} --tls-ca {KEYS}ca.pem native direct")
    assert refused.rc == 3, refused.stderr


@pytest.mark.on("job2", "worker2")
def test_roots_umask_is_strict_here(host):
    """All other tests show that it does not matter."""
    assert host.check_output("umask").endswith("27")


@pytest.fixture(scope="module")
def others(lab, tmp_path_factory):
    """On worker1, certificates that must be refused: a foreign authority's, and ours for an unlisted name."""
    ours = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "gearman-ca")
    foreign = tmp_path_factory.mktemp("foreign")
    for directory, name in ((ours, "stranger"), (foreign, "worker1")):
        arguments = {"directory": str(directory), "hosts": {name: {"names": [name]}}}
        assert not lab.module("localhost", "gearman_authority", arguments)["failed"]
        for kind in ("pem", "key"):
            source = directory / "hosts" / f"{name}.{kind}"
            target = f"{lab.container('worker1')}:/tmp/{directory.name}-{name}.{kind}"
            subprocess.run(["podman", "cp", source, target], check=True)
            # Or the next run would remove the stranger's, which would be a change.
            source.unlink()
    return {
        "foreign": f"/tmp/{foreign.name}-worker1.pem /tmp/{foreign.name}-worker1.key",
        "not listed": "/tmp/gearman-ca-stranger.pem /tmp/gearman-ca-stranger.key",
        "none": "",
    }


@pytest.mark.parametrize("certificate", ["none", "foreign", "not listed"])
def test_whoever_shows_no_certificate_of_ours_gets_nothing(lab, others, certificate):
    answer = knock(lab, "worker1", f"tls {KEYS}ca.pem {others[certificate]}")
    assert answer.startswith("nothing: "), answer


def test_plain_text_gets_nothing(lab):
    assert knock(lab, "worker1", "plain version").startswith("nothing: ")


@pytest.mark.parametrize("port", [GEARMAND, TUNNEL])
@pytest.mark.parametrize("server", SERVERS)
def test_a_host_outside_the_inventory_cannot_connect(lab, server, port):
    answer = knock(lab, "stranger", "plain version", server, port)
    assert answer == "nothing: [Errno 111] Connection refused"


@pytest.mark.parametrize("family", ["ahostsv4", "ahostsv6"])
@pytest.mark.parametrize("server", SERVERS)
def test_both_families_are_served_and_guarded(lab, server, family):
    address = lab["stranger"].check_output(f"getent {family} {server}").split()[0]
    if address.startswith("::ffff:"):
        pytest.skip("this machine has no IPv6")
    named = f"{server}/{address}"
    assert knock(lab, "worker1", f"tls {KEYS}ca.pem {OWN}", named).startswith("OK ")
    for port in (GEARMAND, TUNNEL):
        answer = knock(lab, "stranger", "plain version", named, port)
        assert answer == "nothing: [Errno 111] Connection refused"


def test_other_ports_are_left_alone(lab):
    """SSH above all: here a listener that answers as gearmand would."""
    server = (
        "import socket; s = socket.create_server(('', 22)); c, _ = s.accept(); c.sendall(b'here')"
    )
    with subprocess.Popen(["podman", "exec", lab.container("job1"), "python3", "-c", server]):
        lab.wait_until(lambda: lab["job1"].socket(f"tcp://0.0.0.0:{SSH}").is_listening)
        assert knock(lab, "stranger", "plain version", port=SSH) == "here"


def test_a_table_that_was_flushed_is_back_after_a_run(lab):
    job1 = lab["job1"]
    job1.check_output("nft flush ruleset")
    assert not knock(lab, "stranger", "plain x").endswith("refused")
    recap, output = lab.play("playbooks/site.yml", "--limit=job1")
    assert recap["job1"]["changed"] == 1, output
    assert knock(lab, "stranger", "plain x").endswith("refused")
