"""Uninstalling: jobs that wait stop it before anything is touched; then nothing of Gearvisor is left."""

import re

# What the playbook's last task and docs/uninstall.md list, and what packages that stay bring along.
DATA = (
    "/var/lib/gearvisor",
    "/var/log/gearman-worker",
    "/var/log/gearman-job-server",
    "/var/log/supervisor",
)
PACKAGES_STAY = re.compile(
    r"package:(php|libphp|python3|lib|psmisc|media-types|ucf|gearman$|gcc|openssl)"
)
FILES_STAY = re.compile(
    r"file:/(etc/(alternatives|php|ssl|ld\.so|mime|python|\.pwd|passwd|group|shadow|gshadow|subuid|subgid|rc\d\.d"
    r"|systemd/system/multi-user|supervisor|logrotate|default|init\.d)|var/lib/(php|ucf|gearman|python)|var/log"
    r"|usr/share/(php|python)|usr/lib/python3|usr/local/lib/python|run)"
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
    left = snapshot(host) - before
    unexpected = {
        line
        for line in left
        if not PACKAGES_STAY.match(line)
        and not FILES_STAY.match(line)
        and not line.startswith(tuple(f"file:{path}" for path in DATA))
    }
    # The packages that were removed leave their user, as Debian's packages do.
    assert unexpected - {"user:gearman", "group:gearman"} == set()
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
