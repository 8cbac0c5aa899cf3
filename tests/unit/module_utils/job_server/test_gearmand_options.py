from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import options, queues

SQLITE = queues.typed_queue({"type": "libsqlite3"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, options.Settings()),
        ({"port": 65535, "job_retries": 255}, options.Settings(port=65535, job_retries=255)),
        ({"listen": "::"}, options.Settings(listen="::")),
        ({"listen": "xn--bcher-kva.example"}, options.Settings(listen="xn--bcher-kva.example")),
        ({"queue": {"type": "builtin"}}, options.Settings()),
        ({"queue": {"type": "sqlite"}}, options.Settings(queue=SQLITE)),
        ({"memory_max": "512M"}, options.Settings(memory_max="512M")),
        ({"memory_max": "50%"}, options.Settings(memory_max="50%")),
        ({"exceptions": True}, options.Settings(exceptions=True)),
        ({"hashtable_buckets": 1733003}, options.Settings(hashtable_buckets=1733003)),
        ({"job_handle_prefix": "H:jobs-1"}, options.Settings(job_handle_prefix="H:jobs-1")),
        (
            {"extra_options": ["--keepalive-idle=30", "--coredump"]},
            options.Settings(extra_options=("--keepalive-idle=30", "--coredump")),
        ),
    ],
)
def test_typed_settings(given, expected):
    assert options.typed_settings(given) == expected


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
        ("memory_max", "\u0661G"),
        ("listen", "127.0.0.1,192.0.2.1"),
        ("listen", "127.0.0.1 192.0.2.1"),
        ("listen", "['127.0.0.1']"),
        ("listen", "[::1]"),
        ("listen", "127.0.0.1:4730"),
        ("listen", "jobs.example:4730"),
        ("listen", "[::1]:4730"),
        ("listen", "a\0b"),
        ("listen", "\udcff"),
        ("listen", "x" * 254),
        ("hashtable_buckets", 0),
        ("hashtable_buckets", 2**31),
        ("job_handle_prefix", ""),
        ("job_handle_prefix", "a b"),
        ("job_handle_prefix", "a\n--port=1"),
        ("job_handle_prefix", "-x"),
        ("job_handle_prefix", "x" * 41),
    ],
)
def test_refused(option, value):
    with pytest.raises(InvalidOption) as caught:
        options.typed_settings({option: value})
    assert str(caught.value).startswith(f"{option}: {value!r} ")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("--ssl", "without TLS"),
        ("--ssl-key=/x", "without TLS"),
        ("--daemon", "foreground"),
        ("--user=root", "user gearman"),
        ("--protocol=http", "web page"),
        ("--store-queue-on-shutdown", "lost when gearmand is killed"),
        ("--config-file=/x", "/etc/gearman/gearmand.conf"),
        ("--threads=8", "Use threads"),
        ("--exceptions", "Use exceptions"),
        ("--file-descriptors=100", "Use file_descriptors"),
        ("--mysql-password=x", "Use queue"),
        ("--queue-type=MySQL", "Use queue"),
        # gearmand takes any unambiguous beginning of an option.
        ("--daem", "Write --daemon in full"),
        ("--keepalive-idle", "needs a number"),
        ("--keepalive-idle=0", "needs a number"),
        ("--keepalive-count=99999", "needs a number"),
        ("-d", "not a long option"),
        ("keepalive-idle=30", "not a long option"),
        ("--x y", "not a long option"),
        ("--x=a\n--daemon", "not a long option"),
        ("--x='a'", "not a long option"),
        ("--x=\udcff", "not a long option"),
        ("", "not a long option"),
    ],
)
def test_extra_options_that_are_refused(word, reason):
    with pytest.raises(InvalidOption, match="extra_options") as caught:
        options.typed_settings({"extra_options": ["--coredump", word]})
    assert reason in str(caught.value)


def test_each_option_of_the_table_is_an_argument_and_a_word():
    for option in options.OPTIONS:
        argument = options.arguments()[option.name]
        assert argument["type"] in ("int", "bool", "str")
        assert argument.get("default") == option.default
    given = {"threads": 5, "exceptions": True, "job_handle_prefix": "J", "hashtable_buckets": 7}
    words = options.configuration(options.typed_settings(given))
    expected = {"--threads=5", "--exceptions", "--job-handle-prefix=J", "--hashtable-buckets=7"}
    assert expected <= set(words)
    assert not any("job-handle" in word for word in options.configuration(options.Settings()))
