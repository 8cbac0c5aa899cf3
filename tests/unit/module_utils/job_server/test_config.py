from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import config, queues
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    options,
    sections,
)

SQLITE = queues.typed_queue({"type": "libsqlite3"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, config.Settings()),
        ({"port": 65535, "job_retries": 255}, config.Settings(port=65535, job_retries=255)),
        ({"listen": "::"}, config.Settings(listen="::")),
        ({"listen": "xn--bcher-kva.example"}, config.Settings(listen="xn--bcher-kva.example")),
        ({"queue": {"type": "builtin"}}, config.Settings()),
        ({"queue": {"type": "sqlite"}}, config.Settings(queue=SQLITE)),
        ({"memory_max": "512M"}, config.Settings(memory_max="512M")),
        ({"memory_max": "50%"}, config.Settings(memory_max="50%")),
    ],
)
def test_typed_settings(given, expected):
    assert config.typed_settings(given) == expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("port", 0),
        ("port", 65536),
        ("port", 70000),
        ("port", -1),
        ("threads", -1),
        ("threads", 1025),
        ("backlog", 0),
        ("job_retries", 0),
        ("job_retries", 256),
        ("job_retries", 300),
        ("worker_wakeup", 256),
        ("worker_wakeup", -1),
        ("file_descriptors", 40),
        ("listen", ""),
        ("listen", "127.0.0.1 --port=1"),
        ("listen", "127.0.0.1\n"),
        ("listen", "--port=1"),
        ("listen", "-"),
        ("listen", "'localhost'"),
        ("ssl", True),
        ("memory_max", ""),
        ("memory_max", "0"),
        ("memory_max", "lots"),
        ("memory_max", "1G\nExecStart=/bin/x"),
        ("memory_max", "100%"),
    ],
)
def test_refused(option, value):
    with pytest.raises(InvalidOption) as caught:
        config.typed_settings({option: value})
    assert str(caught.value).startswith(f"{option}: {value!r} ")


@pytest.mark.parametrize("version", [None, "1.1.20+ds-1", "1.1.21*", "1:2~rc1", "latest"])
def test_versions(version):
    config.check_version(version)


@pytest.mark.parametrize("version", ["", "*", "newest", "1.1.20 --x", "1.*.2", "-1"])
def test_refused_versions(version):
    with pytest.raises(InvalidOption, match="version"):
        config.check_version(version)


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
    settings = config.Settings(listen="::1", round_robin=False, queue=SQLITE)
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
    assert config.is_ours(config.config_text(config.Settings()))
    assert config.is_ours(config.drop_in_text(config.Settings()))
    assert config.is_ours(config.max_queue_script())
    assert not config.is_ours("--port=4730\n")


def test_drop_in():
    lines = config.drop_in_text(config.Settings(file_descriptors=5000)).splitlines()
    assert "LimitNOFILE=5000" in lines
    assert "Type=simple" in lines
    # A list is emptied before it is set, or systemd would have two commands.
    command = f"ExecStart={' '.join(config.systemd_command())}"
    assert lines.index("ExecStart=") + 1 == lines.index(command)
    assert "--daemon" not in command
    assert not any(line.startswith(("MemoryMax=", "ReadWritePaths=")) for line in lines)


def test_drop_in_of_other_settings():
    queue = queues.typed_queue({"type": "sqlite", "path": "/srv/queue/jobs"})
    lines = config.drop_in_text(config.Settings(memory_max="2G", queue=queue)).splitlines()
    assert "MemoryMax=2G" in lines
    assert "ReadWritePaths=/srv/queue" in lines
    queue = queues.typed_queue({"type": "mysql"})
    lines = config.drop_in_text(config.Settings(queue=queue)).splitlines()
    assert "After=network-online.target mariadb.service" in lines


def drop_in(**settings):
    return config.drop_in_text(config.Settings(**settings))


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("conf", "# a\n--port=1\n", "# b\n--port=1\n", False),
        ("conf", "--port=1\n", "--port=2\n", True),
        ("conf", None, "--port=2\n", True),
        ("drop-in", drop_in(), drop_in(memory_max="2G"), False),
        ("drop-in", drop_in(), drop_in().replace("RestartSec=1", "RestartSec=2"), False),
        ("drop-in", drop_in(), drop_in().replace("[Unit]", "[Unit]\nWants=x.target"), False),
        ("drop-in", drop_in(), drop_in(file_descriptors=5000), True),
        ("drop-in", drop_in(), drop_in().replace("PrivateTmp=true", "PrivateTmp=false"), True),
        (config.MAX_QUEUE_SCRIPT, None, config.max_queue_script(), False),
    ],
)
def test_needs_restart(path, old, new, expected):
    assert config.needs_restart(path, old, new) is expected


def test_the_program_is_one_that_supervisor_programs_takes():
    program = options.typed_program("gearman-job-server", config.supervisor_program())
    (section,) = sections.sections("gearman-job-server", program)
    assert section.title == "program:gearman-job-server"
    assert section.options["environment"] == 'GEARMAND_PORT=""'


@pytest.mark.parametrize(
    ("argv", "file", "expected"),
    [
        ([], None, config.Running(None, 4730, queues.Queue())),
        (
            ["--pid-file=/x", "--listen=localhost", "--daemon", "--log-file=/y"],
            None,
            config.Running("localhost", 4730, queues.Queue()),
        ),
        (["-p", "4731", "-L", "::1", "-d"], None, config.Running("::1", 4731, queues.Queue())),
        (["-p4731", "-f", "100"], None, config.Running(None, 4731, queues.Queue())),
        (["-q", "MySQL"], None, config.Running(None, 4730, queues.Queue("MySQL"))),
        (
            ["--config-file=/x", "--port=4732"],
            config.config_text(config.Settings(queue=SQLITE)),
            config.Running("127.0.0.1", 4732, SQLITE),
        ),
        (["--port=nonsense"], None, config.Running(None, 4730, queues.Queue())),
    ],
)
def test_running_settings(argv, file, expected):
    assert config.running_settings(["/usr/sbin/gearmand", *argv], file) == expected


def test_config_file_of():
    assert config.config_file_of(config.systemd_command("/a/b")) == "/a/b"
    assert config.config_file_of(["/usr/sbin/gearmand", "-d"]) == "/etc/gearmand.conf"


@pytest.mark.skipif(not os.path.exists(config.GEARMAND), reason="needs Debian's gearman-job-server")
@pytest.mark.parametrize(
    "settings",
    [
        config.Settings(),
        config.Settings(listen="::", round_robin=False, keepalive=False, verbosity="DEBUG"),
        config.Settings(worker_wakeup=255, job_retries=255, queue=SQLITE),
        *(
            config.Settings(queue=queues.typed_queue({"type": kind, "accept_known_defects": True}))
            for kind in queues.TYPES
        ),
    ],
)
def test_gearmand_takes_the_text(settings, tmp_path):
    path = tmp_path / "gearmand.conf"
    path.write_text(config.config_text(settings, 100))
    subprocess.run([config.GEARMAND, "--check-args", f"--config-file={path}"], check=True)
