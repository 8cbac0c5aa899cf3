"""What runs, as which user, and who can reach it."""

import re

import pytest

SYSTEMD = pytest.mark.on("bookworm", "trixie")
PROCESSES = {f"myprocess_{number:02d}" for number in range(12)} | {
    "reference-python_00",
    "reference-php_00",
}


def states(host):
    """Return {process: state} as supervisorctl reports it."""
    lines = host.run("supervisorctl status").stdout.splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


@SYSTEMD
@pytest.mark.parametrize("unit", ["gearman-job-server", "supervisor"])
def test_services_are_up_and_enabled(host, unit):
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


@pytest.mark.on("plain")
def test_without_systemd_supervisor_runs_the_job_server(host):
    assert states(host)["gearman-job-server"] == "RUNNING"


def test_every_process_runs(host):
    running = {name for name, state in states(host).items() if state == "RUNNING"}
    assert running >= PROCESSES
    assert running == set(states(host))


def test_workers_are_not_root(host):
    lines = host.check_output("ps -eo user:32,args").splitlines()
    users = {
        line.split()[0]
        for line in lines
        if re.search(r"worker\.php|gearvisor worker|myprocess\.php", line)
    }
    assert users == {"gearman-worker"}


def test_job_server_is_not_root(host):
    assert host.check_output("ps -C gearmand -o user=").split() == ["gearman"]


def test_nothing_listens_beyond_loopback(host):
    listening = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    addresses = {line.split()[3].rpartition(":")[0] for line in listening}
    assert addresses == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("path", "mode", "owner", "group"),
    [
        ("/etc/gearman/gearmand.conf", 0o640, "root", "gearman"),
        ("/etc/supervisor/conf.d/myprocess.conf", 0o640, "root", "root"),
        ("/srv/app/work", 0o755, "gearman-worker", "gearman-worker"),
        ("/var/log/app", 0o755, "root", "root"),
        ("/var/log/gearman-worker", 0o755, "root", "root"),
    ],
)
def test_owners_and_modes(host, path, mode, owner, group):
    file = host.file(path)
    assert (file.mode, file.user, file.group) == (mode, owner, group)


@pytest.mark.on("bookworm", "trixie")
def test_versions_are_those_pinned(host, lab):
    variables = lab.variables(host.check_output("hostname"))
    php = next(name for name in host.run("ls /etc/php").stdout.split())
    for package, pin in (
        ("gearman-job-server", variables["gearman_job_server_version"]),
        (f"php{php}-gearman", variables["gearman_php_version"]),
    ):
        assert host.package(package).version.startswith(pin.rstrip("*"))
