"""Every recipe runs as its file describes, each process as its user, and the second run changes nothing."""

import pytest

# Processes and user of each program.
PROGRAMS = {
    "shop-worker": (8, "forge"),
    "shop-horizon": (1, "forge"),
    "shop-scheduler": (1, "forge"),
    "messenger-consume": (2, "www-data"),
    "celery-high": (1, "mailer"),
    "celery-low": (1, "mailer"),
    "celery-beat": (1, "mailer"),
    "shard-": (4, "shards"),
    "push": (2, "push"),
    "magento-consumers": (1, "www-data"),
    "drupal-queue": (1, "www-data"),
    "gearman-manager": (1, "gearman-manager"),
    "myprocess": (12, "root"),
}


@pytest.fixture(scope="module")
def status(host):
    """{name: pid} of all processes that run."""
    lines = [line.split() for line in host.run("supervisorctl status").stdout.splitlines()]
    assert {line[1] for line in lines} == {"RUNNING"}
    return {line[0]: line[3].rstrip(",") for line in lines}


@pytest.mark.parametrize(("program", "expected"), PROGRAMS.items(), ids=PROGRAMS)
def test_processes_run_as_their_user(host, status, program, expected):
    number, user = expected
    pids = [pid for name, pid in status.items() if name.startswith(program)]
    assert len(pids) == number
    assert set(host.check_output(f"ps -o user:32= -p {','.join(pids)}").split()) == {user}


def environment(host, user, pid):
    """The process's environment, which only its user may read in a container."""
    command = f"runuser -u {user} -- cat /proc/{pid}/environ"
    pairs = host.check_output(f"{command} | tr '\\0' '\\n'").splitlines()
    return dict(pair.partition("=")[::2] for pair in pairs)


def test_each_shard_has_its_number_port_and_log(host, status):
    for number in range(1, 5):
        pid = status[f"shard-{number}"]
        assert environment(host, "shards", pid)["SHARD"] == str(number)
        assert environment(host, "shards", pid)["LABEL"] == "50% of all"
        assert host.file(f"/var/log/shards/shard-{number}.log").exists


def test_the_path_of_the_virtual_environment_comes_first(host, status):
    path = environment(host, "mailer", status["celery-high_00"])["PATH"].split(":")
    assert path[0] == "/srv/mail/venv/bin"
    assert "/usr/bin" in path


def test_the_shell_that_reads_nvm_is_gone(host, status):
    assert host.check_output(f"cat /proc/{status['push_00']}/comm") == "sleep"


def test_no_log_lies_where_others_could_redirect_it(host, status):
    found = host.check_output("grep -h _logfile= /etc/supervisor/conf.d/*.conf").splitlines()
    assert found
    assert {line.partition("=")[2].split("/")[2] for line in found if "/" in line} == {"log"}
