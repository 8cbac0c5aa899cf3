from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    config,
    options,
    queues,
    unit,
)

SQLITE = queues.typed_queue({"type": "libsqlite3"})


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:4730"),
        ("0.0.0.0", "127.0.0.1:4730"),
        (None, "127.0.0.1:4730"),
        ("::", "[::1]:4730"),
        ("fd00::7", "[fd00::7]:4730"),
        ("jobs.example", "jobs.example:4730"),
    ],
)
def test_client_address(listen, expected):
    assert config.client_address(listen, 4730) == expected


def test_config_text():
    settings = options.Settings(listen="::1", round_robin=False, queue=SQLITE)
    assert config.config_text(settings, 4096) == (
        f"{config.MARK}\n"
        "--listen=::1\n"
        "--port=4730\n"
        "--threads=4\n"
        "--backlog=32\n"
        "--job-retries=3\n"
        "--worker-wakeup=0\n"
        "--verbose=ERROR\n"
        "--queue-type=libsqlite3\n"
        "--libsqlite3-db=/var/lib/gearvisor/gearmand/queue.sqlite3\n"
        "--libsqlite3-table=gearman_queue\n"
        "--file-descriptors=4096\n"
        "--keepalive\n"
    )


def test_the_header_has_no_word_that_gearmand_would_obey():
    assert not any(word.startswith("-") for word in config.MARK.split())


def test_own_files_are_known():
    assert config.is_ours(config.config_text(options.Settings()))
    assert config.is_ours(unit.drop_in_text(options.Settings()))
    assert config.is_ours(config.max_queue_script())
    assert not config.is_ours("--port=4730\n")


@pytest.mark.parametrize(
    ("argv", "file", "expected"),
    [
        ([], None, (None, 4730, queues.Queue())),
        (
            ["--pid-file=/x", "--listen=localhost", "--daemon", "--log-file=/y"],
            None,
            ("localhost", 4730, queues.Queue()),
        ),
        (["-p", "4731", "-L", "::1", "-d"], None, ("::1", 4731, queues.Queue())),
        (["-p4731", "-f", "100"], None, (None, 4731, queues.Queue())),
        (["-q", "MySQL"], None, (None, 4730, queues.Queue("MySQL"))),
        (
            ["--config-file=/x", "--port=4732"],
            config.config_text(options.Settings(queue=SQLITE)),
            ("127.0.0.1", 4732, SQLITE),
        ),
        (["--port=nonsense"], None, (None, 4730, queues.Queue())),
    ],
)
def test_running_settings(argv, file, expected):
    assert config.running_settings(["/usr/sbin/gearmand", *argv], file)[:3] == expected


@pytest.mark.parametrize(
    ("old", "new", "restarts"),
    [
        ("# a\n--port=1\n", "# b\n--port=1\n", False),
        ("--port=1\n--keepalive\n", "--keepalive\n--port=1\n", False),
        ("--port=1\n", "--port=2\n", True),
        (None, "--port=2\n", True),
    ],
)
def test_what_a_process_has_from_its_start(old, new, restarts):
    assert (config.at_start(old) != config.at_start(new)) is restarts


@pytest.mark.parametrize(
    ("argv", "settings", "named"),
    [
        # Debian's own way of starting it, and Gearvisor's.
        (["--pid-file=/x", "--listen=127.0.0.1", "--daemon", "--log-file=/y"], {}, []),
        (config.systemd_command()[1:], {}, []),
        (["--exceptions"], {}, ["--exceptions goes away (the option exceptions)"]),
        (["--exceptions"], {"exceptions": True}, []),
        (["--hashtable-buckets=991"], {}, []),
        (
            ["--hashtable-buckets", "2000", "--job-handle-prefix=P", "-t", "8"],
            {},
            [
                "--hashtable-buckets=2000 goes away (the option hashtable_buckets)",
                "--job-handle-prefix=P goes away (the option job_handle_prefix)",
                "--threads=8 becomes 4 (the option threads)",
            ],
        ),
        (
            ["--keepalive-idle=30"],
            {},
            ["--keepalive-idle=30 goes away (extra_options: ['--keepalive-idle=30'] keeps it)"],
        ),
        (["--keepalive-idle=30"], {"extra_options": ("--keepalive-idle=30",)}, []),
        (["--ssl"], {}, ["--ssl goes away (not supported: Debian builds gearmand without TLS"]),
        (["-q", "MySQL", "--mysql-password=x"], {}, ["--queue-type=MySQL becomes builtin (queue)"]),
    ],
)
def test_options_that_a_takeover_loses(argv, settings, named):
    running = config.running_settings(["/usr/sbin/gearmand", *argv], None)
    found = config.lost_options(running, options.Settings(**settings))
    assert len(found) == len(named)
    assert all(text.startswith(start) for text, start in zip(found, named))


def test_debians_file_shows_that_it_is_not_read():
    text = 'PARAMS="--listen=localhost"\n'
    marked = config.defaults_text(text)
    assert marked.endswith(text)
    assert marked.startswith("# Gearvisor")
    assert config.defaults_text(marked) == marked
    assert config.defaults_restored(marked) == config.defaults_restored(text) == text


def test_config_file_of():
    assert config.config_file_of(config.systemd_command("/a/b")) == "/a/b"
    assert config.config_file_of(["/usr/sbin/gearmand", "-d"]) == "/etc/gearmand.conf"


@pytest.mark.skipif(not os.path.exists(config.GEARMAND), reason="needs Debian's gearman-job-server")
@pytest.mark.parametrize(
    "settings",
    [
        options.Settings(),
        options.Settings(listen="::", round_robin=False, keepalive=False, verbosity="DEBUG"),
        options.Settings(worker_wakeup=255, job_retries=255, queue=SQLITE),
        options.Settings(exceptions=True, hashtable_buckets=10, job_handle_prefix="H:x"),
        options.Settings(extra_options=("--keepalive-idle=30", "--coredump", "--syslog")),
        *(
            options.Settings(queue=queues.typed_queue({"type": kind, "accept_known_defects": True}))
            for kind in queues.TYPES
        ),
    ],
)
def test_gearmand_takes_the_text(settings, tmp_path):
    path = tmp_path / "gearmand.conf"
    path.write_text(config.config_text(settings, 100))
    subprocess.run([config.GEARMAND, "--check-args", f"--config-file={path}"], check=True)
