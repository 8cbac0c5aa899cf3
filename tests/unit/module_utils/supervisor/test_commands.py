# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands as people write them for a shell, and the messages they get."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import commands

REFUSED = [
    ("cd /srv/app && php worker.php", ["'cd'", "runs no shell", "Set directory"]),
    ("cd /srv/app; php worker.php", ["'cd'", "Set directory"]),
    ("export A=1 && php x", ["'export'", "environment"]),
    ("source ~/.bashrc && node x.js", ["'source'", "/bin/bash -c"]),
    (". /etc/profile && node x.js", ["'.'", "/bin/sh -c"]),
    ("exec php x.php", ["'exec'", "Leave 'exec' out"]),
    ("umask 027", ["option umask"]),
    ("ulimit -n 4096 && x", ["ulimit"]),
    ("nvm exec 18 node x.js", ["'nvm'", "full path of node"]),
    ("while true; do php x.php; done", ["'while'", "script"]),
    ("pushd /srv/app && php worker.php", ["'pushd'", "Set directory"]),
    ("(cd /srv/app; php worker.php)", ["'('", "runs no shell"]),
    ("{ php worker.php; }", ["'{'", "/bin/sh -c"]),
    ("[[ -f /x ]] && php worker.php", ["'[['", "script"]),
    ("! php worker.php", ["'!'", "script"]),
    ("case $A in b) php x;; esac", ["'case'", "script"]),
    ("declare -x A=1", ["'declare'", "environment"]),
    ("alias x=y", ["'alias'"]),
    ("APP_ENV=prod php worker.php", ["the variable APP_ENV", "runs no shell", "environment"]),
    ("A=1 B=s3cret php worker.php", ["the variable A"]),
    ("./bin/console messenger:consume", ["relative path", "directory", "/srv/app/bin/console"]),
    ("bin/magento queue:consumers:start x", ["relative path", "/srv/app/bin/magento"]),
    ("../venv/bin/python x.py", ["relative path"]),
    ("~/app/worker", ["'~'", "home directory"]),
    ("gearmand -d", ["gearmand", "background", "Leave -d out"]),
    ("/usr/sbin/gearmand --daemon --port=4730", ["background"]),
    ("redis-server --daemonize yes", ["--daemonize no"]),
    ("celery multi start w1 -A app", ["background"]),
    ("/venv/bin/celery -A app worker --detach", ["without --detach"]),
    ("gunicorn --daemon app:wsgi", ["background"]),
    ("php /opt/pecl-manager.php -d -c /etc/gm.ini", ["pecl-manager.php", "Leave -d out"]),
    ("php-fpm8.2", ["--nodaemonize"]),
    ("nginx", ["daemon off"]),
    ("setsid php worker.php", ["Leave setsid out"]),
    ("nohup setsid php worker.php", ["Leave setsid out"]),
    ("env A=1 screen -dmS w php x.php", ["Run the program itself"]),
    ("pm2 start app.js", ["pm2-runtime"]),
    ("docker run -d app", ["Leave -d out"]),
]


@pytest.mark.parametrize(("command", "told"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_work_is_refused_with_what_to_write(command, told):
    with pytest.raises(InvalidOption) as caught:
        commands.check("programs.x.command", command)
    message = str(caught.value)
    assert message.startswith("programs.x.command: ")
    assert "s3cret" not in message
    for word in told:
        assert word in message


WARNED = [
    ("php x.php > /dev/null", ["> will be an argument", "stdout_logfile"]),
    ("php x.php >> /var/log/x.log 2>&1", [">> 2>&1 will be", "redirect_stderr"]),
    ("php x.php >/dev/null 2>/dev/null", [">/dev/null", "stdout_logfile"]),
    ("php x.php < /etc/in", ["< will be", "script"]),
    ("php x.php | tee log", ["| will be an argument", "script"]),
    ("php x.php|tee log", ["| will be an argument", "script"]),
    ("php x.php |& tee log", ["|& will be an argument", "script"]),
    (
        "php w.php --functions /srv/app/*.php",
        ["/srv/app/*.php will not be expanded", "Name the files"],
    ),
    ("php w.php /srv/{a,b}.php", ["/srv/{a,b}.php will not be expanded"]),
    ("php w.php /srv/shard{1..3}.php", ["will not be expanded"]),
    ("php x.php &", ["& will be an argument", "foreground"]),
    ("php x.php&", ["& will be an argument", "foreground"]),
    ("php x.php && php y.php", ["&& will be an argument", "exec"]),
    ("php x.php || true", ["|| will be an argument"]),
    ("php x.php; php y.php", ["argument"]),
    ("php $HOME/x.php", ["$HOME will not be replaced", "%(ENV_NAME)s"]),
    ('php "${APP}/x.php"', ["${APP} will not be replaced"]),
    ("php x.php --host=$(hostname)", ["$( will not be replaced"]),
    ("php x.php --host=`hostname`", ["` will not be replaced"]),
    ("php ~/x.php", ["'~' will not be replaced"]),
    ("bash -c 'source nvm.sh && worker; true'", ["bash is the process", "stopasgroup: true"]),
    ("/bin/sh -c 'php worker.php'", ["sh is the process", "exec"]),
    ("bash -lc 'cd /srv && node x.js'", ["bash is the process"]),
    ("bash -c 'php worker.php | tee log'", ["bash is the process"]),
    ("nice -n 10 sh -c 'cd x; php y'", ["sh is the process"]),
    ("env A=1 npm run worker", ["npm is the process", "killasgroup: true"]),
    ("/usr/bin/sudo -u www-data php x.php", ["sudo is the process"]),
    ("flock -n /run/x.lock php x.php", ["flock is the process"]),
    ("/home/u/.nvm/nvm-exec node x.js", ["nvm-exec is the process"]),
    ("bash -c 'php x.php &'", ["'&'", "background"]),
    ("nohup php x.php", ["nohup is not needed"]),
    ("/opt/worker --daemon", ["--daemon looks as if"]),
]


@pytest.mark.parametrize(("command", "told"), WARNED, ids=[case[0] for case in WARNED])
def test_what_is_worth_a_warning(command, told):
    commands.check("o", command)
    texts = commands.advice(command)
    assert texts
    for word in told:
        assert any(word in text for text in texts), texts


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/php /srv/app/artisan queue:work --daemon --tries=3",
        "php artisan queue:work --queue=high,default",
        "curl http://h/?a=1&b=2",
        "python -m app --filter=a|b --price=$5",
        "php x.php 'a > b' \"c | d\" '$HOME' \\$HOME",
        "pip install x>=5",
        "bash -c 'exec php worker.php'",
        "bash -c 'source ~/.nvm/nvm.sh && exec node worker.js'",
        'bash -c "cd $HOME; exec node worker.js > /dev/null"',
        "bash -c 'php worker.php'",
        "/bin/sh -c 'ulimit -n 4096; exec worker'",
        "nice -n 10 php worker.php",
        "env APP_ENV=prod php worker.php",
        "flock --no-fork /run/x.lock php x.php",
        "/usr/bin/timeout 60 php x.php",
        "/venv/bin/celery -A app worker -Q high --concurrency=4",
        "redis-server --daemonize no",
        "php-fpm8.2 --nodaemonize",
        "nginx -g 'daemon off;'",
        "docker run --rm app",
        "php artisan queue:work --queue='*'",
        "celery -A app worker -X '/srv/*'",
        "worker --match=/srv/*.php --filter=mail.*",
        "worker http://h/?a=1 /srv/{name}",
        "gearmand --port=4730",
        "%(ENV_HOME)s/bin/worker",
        "php -d memory_limit=1G worker.php",
        "bin%(process_num)d",
        "",
        "x 'unbalanced",
    ],
)
def test_nothing_to_say(command):
    commands.check("o", command)
    assert commands.advice(command) == []


def test_a_wrapper_whose_group_is_stopped_is_fine():
    assert commands.advice("npm run worker", stops_group=True) == []
    assert commands.is_wrapper("npm run worker")
    assert not commands.is_wrapper("node worker.js")


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("dash", "sleep 60"),
        ("bash", "sleep 60"),
        ("bash", "exec sleep 60"),
        ("dash", "true; exec sleep 60"),
        ("bash", "sleep 60; true"),
        ("dash", "sleep 60 | cat"),
    ],
)
def test_which_shells_are_wrappers_is_what_they_do_here(shell, script):
    found = [shell, "-c", script]
    child = subprocess.Popen(found, start_new_session=True)
    try:
        name, started = "", time.monotonic()
        # At first a shell is there in both cases.
        while name not in ("sleep", shell) or time.monotonic() < started + 0.3:
            name = pathlib.Path(f"/proc/{child.pid}/comm").read_text().strip()
            assert time.monotonic() < started + 60
        expected = None if name == "sleep" else shell
        assert commands._wrapper(found) == expected
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
