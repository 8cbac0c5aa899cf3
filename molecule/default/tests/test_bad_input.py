"""Bad input ends with a message that helps, and leaves every file and process as it was."""

import pytest

pytestmark = pytest.mark.on("bookworm")

PROGRAM = {"command": "/bin/sleep 1000"}


def snapshot(host):
    """Return what must not change: the files' digests and the processes."""
    files = "/etc/supervisor /etc/gearman /etc/systemd/system /etc/php /opt/gearvisor /etc/apt"
    return (
        host.check_output(f"find {files} -type f -print0 | sort -z | xargs -0 sha256sum"),
        host.check_output("dpkg-query --show"),
        host.check_output("supervisorctl pid; supervisorctl status | sed 's/uptime.*//'"),
        host.check_output("pgrep gearmand"),
    )


@pytest.fixture(autouse=True)
def nothing_changes(host):
    before = snapshot(host)
    yield
    assert snapshot(host) == before


def programs(**options):
    return {"programs": {"trial": {**PROGRAM, **options}}}


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (
            "supervisor_programs",
            programs(autorestat=True),
            ["programs.trial", "'autorestat'", "Did you mean 'autorestart'"],
        ),
        (
            "supervisor_programs",
            programs(command="/bin/sleep 1\n[program:evil]"),
            ["programs.trial.command", "evil", "line break", "one line"],
        ),
        (
            "supervisor_programs",
            programs(command="/bin/sleep 1 ; rm x"),
            ["programs.trial.command", "/bin/sleep 1 ; rm x", "comment", "Leave out the space"],
        ),
        (
            "supervisor_programs",
            programs(command="/bin/date +%s"),
            ["programs.trial.command", "+%s", "'%%'"],
        ),
        (
            "supervisor_programs",
            programs(user="nosuchuser"),
            ["programs.trial.user", "nosuchuser", "Create it first"],
        ),
        (
            "supervisor_programs",
            programs(command="/usr/bin/nosuchbinary"),
            ["programs.trial.command", "/usr/bin/nosuchbinary", "Install it first"],
        ),
        (
            "supervisor_programs",
            {"programs": {"a/b": PROGRAM}},
            ["programs", "'a/b'", "Use letters, digits"],
        ),
        ("gearman_job_server", {"port": 70000}, ["port", "70000", "65535"]),
        ("gearman_job_server", {"job_retries": 300}, ["job_retries", "300", "255"]),
        (
            "gearman_python_binding",
            {"python": "/usr/local/bin/python3.13"},
            ["python", "/usr/local/bin/python3.13", "Install it first", "/usr/bin/python3.11"],
        ),
        (
            "gearman_python_binding",
            {"requirements": ["-r /srv/nosuch.txt"]},
            ["requirements", "/srv/nosuch.txt", "Deploy the file first"],
        ),
        (
            "gearman_python_binding",
            {"wheelhouse": "/srv/nosuch"},
            ["wheelhouse", "/srv/nosuch", "pip download"],
        ),
    ],
    ids=[
        "unknown option",
        "newline",
        "comment",
        "percent",
        "unknown user",
        "missing binary",
        "name with a slash",
        "port",
        "job_retries",
        "interpreter",
        "requirements file",
        "wheelhouse",
    ],
)
def test_bad_value(lab, host, module, arguments, words):
    result = lab.module("bookworm", module, arguments)
    assert result["failed"]
    for word in words:
        assert word in result["msg"]


def test_broken_file_of_somebody_else_is_named(lab, host):
    path = "/etc/supervisor/conf.d/theirs.conf"
    host.check_output("printf '[program:theirs]\ncommand=/bin/true\nuser=nosuchuser\n' > %s", path)
    try:
        result = lab.module("bookworm", "supervisor_programs", programs())
    finally:
        host.check_output("rm %s", path)
    assert result["failed"]
    for word in (path, "nosuchuser", "correct or remove it"):
        assert word in result["msg"]


def test_busy_port(lab, host):
    host.check_output(
        "systemd-run --quiet --unit=busy python3 -c %s",
        "import socket, time; s = socket.create_server(('127.0.0.1', 4999)); time.sleep(600)",
    )
    lab.wait_until(lambda: host.run("ss -ltn | grep -q 127.0.0.1:4999").rc == 0)
    try:
        result = lab.module("bookworm", "gearman_job_server", {"port": 4999})
    finally:
        host.check_output("systemctl stop busy")
    assert result["failed"]
    for word in ("port", "4999", "python3"):
        assert word in result["msg"]


def test_apt_without_network(lab):
    with lab.without_packages("bookworm"):
        result = lab.module("bookworm", "gearman_php_extension", {"sapis": ["cli", "fpm"]})
    assert result["failed"]
    for word in ("state", "php8.2-fpm", "network"):
        assert word in result["msg"]
