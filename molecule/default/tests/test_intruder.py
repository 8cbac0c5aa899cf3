"""What the workers' user and another user of the host try in order to become more than they are: refused."""

import shlex

import pytest

# Each as a shell command that succeeds only when the try does. They are the same on all hosts: both
# releases, with systemd and without.
BOTH = {
    "replace the virtual environment": "mv /opt/gearvisor/venv /opt/gearvisor/other",
    "point it elsewhere": "ln -sfn /tmp /opt/gearvisor/venv",
    "add a module to it": "touch $(readlink -f /opt/gearvisor/venv)/lib/python3*/site-packages/x.pth",
    "replace its interpreter": "ln -sf /bin/sh $(readlink -f /opt/gearvisor/venv)/bin/python",
    "change the PHP worker": "echo x >>/opt/gearvisor/php/worker.php",
    "change the PHP worker's classes": "touch /opt/gearvisor/php/src/x.php",
    "replace the command": "ln -sf /bin/sh /usr/local/bin/gearvisor",
    "change the event listener, which is root's": "echo x >>/usr/local/lib/gearvisor/retry_fatal.py",
    "add a program": "echo x >/etc/supervisor/conf.d/x.conf",
    "change a program": "echo x >>/etc/supervisor/conf.d/myprocess.conf",
    "read a program, which may hold secrets": "cat /etc/supervisor/conf.d/myprocess.conf",
    "speak with supervisord": "supervisorctl status | grep RUNNING",
    "write to supervisord's socket": (
        "/usr/bin/python3 -c 'import socket as s; s.socket(s.AF_UNIX).connect(\"/run/supervisor.sock\")'"
    ),
    "read gearmand's configuration": "cat /etc/gearman/gearmand.conf",
    "change gearmand's configuration": "echo x >>/etc/gearman/gearmand.conf",
    "change gearmand's defaults": "echo x >>/etc/default/gearman-job-server",
    "read the host's lock": "cat /run/gearvisor.lock",
    "take the host's lock": "flock --nonblock /run/gearvisor.lock true",
    "write a journal, which root would carry out": "echo {} >/var/lib/gearvisor/journal/x.json",
    "replace the journal": "mv /var/lib/gearvisor/journal /var/lib/gearvisor/j",
    "note a group as the fleet's": "echo {} >/var/lib/gearvisor/fleets/x.json",
    "read what a fleet owns": "cat /var/lib/gearvisor/fleets/*.json",
    "pause a function": "touch /var/lib/gearvisor/paused/reverse_php",
    "pause one by the command": "/opt/gearvisor/venv/bin/gearvisor pause reverse_php",
    "have directories made at boot": "echo 'd /etc/x 0777' >/etc/tmpfiles.d/gearvisor-x.conf",
    "change those that are": "echo x >>/etc/tmpfiles.d/gearvisor-gearman-worker.conf",
    "make a directory beside the workers'": "mkdir /run/gearvisor/x",
    "show a rollout": "echo {} >/run/gearvisor/rollout.json",
    "show processes": "echo {} >/run/gearvisor/processes.json",
    "keep failed jobs for another user": "mkdir /var/lib/gearvisor/failed/x",
    "write to a program's log": "echo x >>/var/log/gearman-worker/reference-php_00.log",
    "put a link in its place": "ln -sf /etc/shadow /var/log/gearman-worker/reference-php_00.log",
    "leave a policy for packages": "touch /usr/sbin/policy-rc.d",
}
OTHERS = {
    "see what the workers do": "ls /run/gearvisor/gearman-worker",
    "list their failed jobs": "ls /var/lib/gearvisor/failed/gearman-worker",
    "read their failed jobs": "/opt/gearvisor/venv/bin/gearvisor failed list",
    "read their environment": "cat /proc/$(pgrep -o -u gearman-worker)/environ",
    "write a status file of theirs": "touch /run/gearvisor/gearman-worker/x.json",
    "end a worker": "kill $(pgrep -o -u gearman-worker)",
}


@pytest.mark.parametrize(
    ("user", "tries"), [("gearman-worker", BOTH), ("nobody", {**BOTH, **OTHERS})]
)
def test_every_try_is_refused(host, user, tries):
    script = "\n".join(
        f"runuser -u {user} -- sh -c {shlex.quote(command)} >/dev/null 2>&1 && echo {shlex.quote(what)}"
        for what, command in tries.items()
    )
    assert host.run(script).stdout.splitlines() == []
    assert host.run("supervisorctl status").stdout.count("RUNNING") >= 14
