"""Uninstalling: jobs that wait stop it before anything is touched; then nothing of Gearvisor is left."""

import re

# What the playbook's last task and docs/uninstall.md list.
DATA = (
    "/var/lib/gearvisor",
    "/var/log/gearman-worker",
    "/var/log/gearman-job-server",
    "/var/log/supervisor",
)
# The packages that stay according to docs/uninstall.md, as a user would remove them, with what came with them.
REMOVE_PACKAGES = (
    "apt-get -qq -y purge php-cli php-common python3-venv >/dev/null 2>&1"
    " && apt-get -qq -y --purge autoremove >/dev/null 2>&1"
)
OURS = re.compile("gearman|gearvisor|supervisor")
# What Debian's packages leave until they are purged, and the group that may read the failed jobs.
UNTIL_DATA_GOES = re.compile(
    r"file:/etc/rc\d\.d/|file:/etc/systemd/system/multi-user\.target\.wants/supervisor\.service$"
    r"|file:/var/lib/(gearman$|php/)|package:libgearman8|(user|group):gearman$|group:gearvisor$"
)
# What they leave for good, and other packages recommend.
OF_DEBIAN = re.compile(
    r"file:/(run/adduser|usr/bin/fuser|var/lib/ucf/.*|var/log/(alternatives|dpkg)\.log)$"
    r"|package:(psmisc|python3[.\w-]*-(venv|whl|distutils|lib2to3))$"
)


def snapshot(host):
    return set(host.check_output("/root/snapshot").splitlines())


def states(host):
    return host.run("supervisorctl status").stdout


def uninstall(lab, name, *arguments, succeeds=True):
    return lab.play("playbooks/uninstall.yml", f"--limit={name}", *arguments, succeeds=succeeds)[1]


def test_jobs_that_wait_stop_it_before_anything_is_touched(lab, host, request):
    name = request.node.callspec.params["host"]
    host.check_output("gearvisor submit --background nobody-serves-this x")
    before = states(host)
    output = uninstall(lab, name, succeeds=False)
    assert "force" in output
    assert states(host).count("RUNNING") == before.count("RUNNING") > 0
    host.check_output("gearvisor submit reverse_python hello")


def test_nothing_but_what_is_listed_is_left(lab, host, request):
    name = request.node.callspec.params["host"]
    before = set(host.check_output("cat /root/before").splitlines())
    output = uninstall(lab, name, "-e", "gearman_job_server_restart=force")
    for path in DATA:
        assert path in output
    kept = tuple(f"file:{path}" for path in DATA)
    ours = {
        line
        for line in snapshot(host) - before
        if OURS.search(line) and not line.startswith(kept) and not UNTIL_DATA_GOES.match(line)
    }
    assert ours == set()
    assert not host.user("gearman-worker").exists
    assert not host.file("/opt/gearvisor").exists
    assert not host.package("gearman-job-server").is_installed
    assert not host.package("supervisor").is_installed
    assert host.run("pgrep -f 'gearmand|supervisord|worker.php'").rc == 1


def test_data_goes_when_asked_and_a_second_run_changes_nothing(lab, host, request):
    name = request.node.callspec.params["host"]
    uninstall(lab, name, "-e", "gearman_uninstall_data=true")
    for path in DATA:
        assert not host.file(path).exists
    recap, _ = lab.play(
        "playbooks/uninstall.yml", f"--limit={name}", "-e", "gearman_uninstall_data=true"
    )
    assert recap[name]["changed"] == 0


def test_with_the_packages_that_are_listed_nothing_is_left_at_all(host):
    before = set(host.check_output("cat /root/before").splitlines())
    host.check_output(REMOVE_PACKAGES)
    left = snapshot(host) - before
    assert {line for line in left if not OF_DEBIAN.match(line)} == set()
