from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    config,
    options,
    queues,
)

ACCEPT = {"accept_known_defects": True}
PLAIN = {"accept_plaintext": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["--queue-type=builtin"]),
        ({"type": "builtin", "path": None}, ["--queue-type=builtin"]),
        (
            {"type": "sqlite"},
            [
                "--queue-type=libsqlite3",
                "--libsqlite3-db=/var/lib/gearvisor/gearmand/queue.sqlite3",
                "--libsqlite3-table=gearman_queue",
            ],
        ),
        (
            {"type": "libsqlite3", "path": "/srv//q/../q.db", "table": "jobs_1"},
            [
                "--queue-type=libsqlite3",
                "--libsqlite3-db=/srv/q.db",
                "--libsqlite3-table=jobs_1",
            ],
        ),
        (
            {"type": "mysql", "host": "db.example", "password": "a--b%c", **PLAIN},
            [
                "--queue-type=MySQL",
                "--mysql-host=db.example",
                "--mysql-port=3306",
                "--mysql-user=gearman",
                "--mysql-password=a--b%c",
                "--mysql-db=gearman",
                "--mysql-table=gearman_queue",
            ],
        ),
        (
            {"type": "postgres", **ACCEPT},
            [
                "--queue-type=Postgres",
                "--libpq-conninfo=postgresql://gearman@%2Frun%2Fpostgresql:5432/gearman",
                "--libpq-table=queue",
            ],
        ),
        (
            {"type": "postgres", "host": "fd00::7", "password": "a b:@/'ü", **ACCEPT, **PLAIN},
            [
                "--queue-type=Postgres",
                "--libpq-conninfo=postgresql://gearman:a%20b%3A%40%2F%27%C3%BC@[fd00::7]:5432/gearman",
                "--libpq-table=queue",
            ],
        ),
        (
            {"type": "redis", "port": 6380, **ACCEPT},
            ["--queue-type=redis", "--redis-server=127.0.0.1", "--redis-port=6380"],
        ),
        (
            {"type": "memcached", "servers": ["a:1", "b"], "prefix": "g", **ACCEPT, **PLAIN},
            [
                "--queue-type=libmemcached",
                "--libmemcached-servers=a:1,b",
                "--libmemcached-prefix=g",
            ],
        ),
    ],
)
def test_typed_queue(given, expected):
    assert queues.typed_queue(given).lines() == expected


@pytest.mark.parametrize(
    ("option", "queue"),
    [
        ("type", {"type": "tokyocabinet"}),
        ("path", {"type": "builtin", "path": "/srv/q"}),
        ("table", {"table": "jobs"}),
        ("host", {"type": "sqlite", "host": "db"}),
        ("path", {"type": "mysql", "path": "/srv/q"}),
        ("password", {"type": "memcached", "password": "secret", **ACCEPT}),
        ("servers", {"type": "redis", "servers": ["a:1"], **ACCEPT}),
        ("path", {"type": "sqlite", "path": "q.db"}),
        ("path", {"type": "sqlite", "path": ""}),
        ("path", {"type": "sqlite", "path": "/"}),
        ("path", {"type": "sqlite", "path": "/srv/q/"}),
        ("path", {"type": "sqlite", "path": "/srv/a b"}),
        ("path", {"type": "sqlite", "path": "/srv/--port=1"}),
        ("path", {"type": "sqlite", "path": "/tmp/q"}),
        ("path", {"type": "sqlite", "path": "/srv/../home/q"}),
        ("table", {"type": "sqlite", "table": "jobs; drop"}),
        ("table", {"type": "sqlite", "table": ""}),
        ("port", {"type": "mysql", "port": 0}),
        ("port", {"type": "mysql", "port": 65536}),
        ("host", {"type": "mysql", "host": ""}),
        ("host", {"type": "mysql", "host": "--port=1"}),
        ("host", {"type": "mysql", "host": "a b"}),
        ("user", {"type": "mysql", "user": "a'b"}),
        ("database", {"type": "mysql", "database": "a b"}),
        ("password", {"type": "mysql", "password": ""}),
        ("password", {"type": "mysql", "password": "two words"}),
        ("password", {"type": "mysql", "password": "secret\n--port=1"}),
        ("password", {"type": "redis", "password": "secret'", **ACCEPT}),
        ("password", {"type": "postgres", "password": "", **ACCEPT}),
        ("servers", {"type": "memcached", "servers": [], **ACCEPT}),
        ("servers", {"type": "memcached", "servers": ["a:b"], **ACCEPT}),
        ("servers", {"type": "memcached", "servers": ["a,b"], **ACCEPT}),
        ("servers", {"type": "memcached", "servers": ["127.0.0.1:70000"], **ACCEPT}),
        # Words of SQL, which gearmand does not quote.
        ("table", {"type": "sqlite", "table": "order"}),
        ("table", {"type": "sqlite", "table": "Group"}),
        ("table", {"type": "sqlite", "table": "sqlite_jobs"}),
        ("table", {"type": "mysql", "table": "rank"}),
        ("table", {"type": "mysql", "table": "KEYS"}),
        ("table", {"type": "postgres", "table": "user", **ACCEPT}),
        ("table", {"type": "postgres", "table": "pg_jobs", **ACCEPT}),
        ("table", {"type": "mysql", "table": "x" * 65}),
        ("path", {"type": "sqlite", "path": "/srv/a\0b"}),
        ("path", {"type": "sqlite", "path": "/srv/\udcff"}),
        ("path", {"type": "sqlite", "path": "/srv/" + "x" * 4096}),
        ("host", {"type": "mysql", "host": "\u00fc.example", **PLAIN}),
        ("password", {"type": "postgres", "password": "secret\udcff", **ACCEPT}),
        # Another host, in plain text.
        ("host", {"type": "mysql", "host": "db.example", "password": "secret"}),
        ("host", {"type": "mysql", "host": "192.0.2.7"}),
        ("host", {"type": "postgres", "host": "fd00::7", **ACCEPT}),
        ("host", {"type": "redis", "host": "localhost.example", **ACCEPT}),
        ("servers", {"type": "memcached", "servers": ["127.0.0.1", "192.0.2.7"], **ACCEPT}),
    ],
)
def test_refused(option, queue):
    with pytest.raises(InvalidOption) as caught:
        queues.typed_queue(queue)
    assert caught.value.details["option"] == f"queue.{option}"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "queue",
    [
        {"type": "sqlite", "table": "orders"},
        {"type": "mysql", "host": "127.0.0.1"},
        {"type": "mysql", "host": "::1"},
        {"type": "mysql", "host": "localhost", "table": "abort"},
        {"type": "postgres", "host": "/run/postgresql", **ACCEPT},
        {"type": "memcached", "servers": ["127.0.0.1:11211", "localhost"], **ACCEPT},
        {"type": "redis", "host": "192.0.2.7", **ACCEPT, **PLAIN},
    ],
)
def test_taken(queue):
    assert queues.typed_queue(queue)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("postgres", ["high priority", "runs again", "refused until gearmand is restarted"]),
        ("redis", ["first NUL", "under another name", "delayed jobs"]),
        ("memcached", ["lose some jobs or all", "another name"]),
    ],
)
def test_known_defects_are_named_unless_accepted(kind, words):
    with pytest.raises(InvalidOption) as caught:
        queues.typed_queue({"type": kind})
    for word in [*words, "queue.accept_known_defects: true"]:
        assert word in str(caught.value)
    assert queues.typed_queue({"type": kind, **ACCEPT})


@pytest.mark.parametrize(
    ("given", "survives", "holds"),
    [
        ({"type": "builtin"}, False, True),
        ({"type": "sqlite"}, True, True),
        ({"type": "mysql"}, True, True),
        ({"type": "postgres"}, True, True),
        ({"type": "redis"}, True, False),
        ({"type": "memcached"}, False, False),
    ],
)
def test_what_a_queue_can_do(given, survives, holds):
    queue = queues.typed_queue({**given, **ACCEPT})
    assert (queue.survives_restart, queue.accepts_delayed_jobs) == (survives, holds)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"type": "mysql"}, {"type": "mysql", "user": "u", "password": "p"}, True),
        ({"type": "mysql"}, {"type": "mysql", "table": "t"}, False),
        ({"type": "mysql"}, {"type": "sqlite"}, False),
        (
            {"type": "postgres", "user": "u", "password": "p"},
            {"type": "postgres", "password": "q"},
            True,
        ),
        ({"type": "postgres"}, {"type": "postgres", "database": "d"}, False),
        ({"type": "redis", "password": "p"}, {"type": "redis"}, True),
        ({"type": "sqlite"}, {"type": "sqlite", "path": "/srv/q"}, False),
    ],
)
def test_the_same_jobs(one, other, same):
    """As it runs, and the requested state."""
    settings = options.Settings(queue=queues.typed_queue({**one, **ACCEPT}))
    running = config.running_settings(["gearmand"], config.config_text(settings)).queue
    assert running.same_jobs(queues.typed_queue({**other, **ACCEPT})) is same


@pytest.mark.parametrize("kind", ["mysql", "postgres", "redis"])
def test_texts_without_secrets(kind):
    queue = queues.typed_queue({"type": kind, "password": "secret", **ACCEPT})
    text = config.config_text(options.Settings(queue=queue))
    assert "secret" in text
    shown = queues.without_secrets(text)
    assert "secret" not in shown
    assert "***" in shown
    assert len(shown.splitlines()) == len(text.splitlines())
