"""site.yml through a hardened sshd and sudo, under umask 027, where a deploy user owns /srv."""

import json

import pytest

GEARVISOR = "/opt/gearvisor/venv/bin/gearvisor"


def as_user(host, user, command):
    return host.run(f"su -s /bin/sh {user} -c '{command}'")


def test_the_hosts_are_hardened(host):
    assert host.check_output("sudo -u ops sudo -n true 2>&1 || echo refused").endswith("refused")
    assert host.socket("tcp://0.0.0.0:2222").is_listening
    assert not host.socket("tcp://0.0.0.0:22").is_listening
    umask = host.check_output("echo lab | su ops -c 'sudo -S -p \"\" sh -c umask'")
    assert umask.endswith("27")


@pytest.mark.on("worker")
@pytest.mark.parametrize("function", ["upper_python", "upper_php"])
def test_every_user_of_the_host_may_submit(host, function):
    done = as_user(host, "nobody", f"{GEARVISOR} submit --server 127.0.0.1:4740 {function} hello")
    assert done.stdout.strip() == "HELLO", done.stderr


@pytest.mark.parametrize("place", ["/opt/gearvisor", "/usr/local/lib/gearvisor"])
def test_what_others_have_to_read_they_can(host, place):
    if not host.file(place).exists:
        pytest.skip(f"{place} is not on this host")
    hidden = f"find {place} ! -type l ( ! -perm -o+r -o -type d ! -perm -o+x )"
    assert host.check_output(hidden.replace("(", "\\(").replace(")", "\\)")) == ""


@pytest.mark.on("worker")
def test_the_log_is_in_the_projects_directory(host):
    log = host.file("/srv/app/log/tasks.log")
    assert log.exists and log.user == "root"


def test_without_trust_in_its_owner_the_log_is_named(lab):
    """It is loaded already, so this is a warning; what is new is refused."""
    _recap, output = lab.play("playbooks/site.yml", "--check", *others(gearman_trusted_users=[]))
    assert "/srv belongs to user deploy" in " ".join(output.split()), output


def test_sshs_own_port_cannot_be_guarded(lab):
    ports = others(gearman_firewall_ports=[2222])
    _recap, output = lab.play("playbooks/site.yml", *ports, succeeds=False)
    assert "2222 is SSH's, and guarding it could lock you out" in " ".join(output.split())


def others(**variables):
    return "--tags=firewall,workers", "--extra-vars", json.dumps(variables)


@pytest.mark.on("queue")
def test_only_prometheus_reaches_the_exporters(host, lab):
    look = "import socket; socket.create_connection(({!r}, 9418), 10)"
    assert host.run("/usr/bin/python3 -c %s", look.format("worker")).rc == 0
    refused = lab["worker"].run("/usr/bin/python3 -c %s", look.format("queue"))
    assert "Connection refused" in refused.stderr
