# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where gearmand keeps background jobs: the queue types, typed and as gearmand's options. All pure.

The statements about each type were measured with the gearmand of Debian 12 and 13; docs/queues.md has
the figures, the scenario `queues` the tests.
"""

from __future__ import annotations

import re
import types
import urllib.parse
from typing import NamedTuple

from ..failure import InvalidOption
from . import queue_values, sql_words
from .queue_values import NOT_SHOWN, QUEUE_PATH

_OF_ALL_TYPES = ("type", "accept_known_defects", "accept_plaintext")


class Queue(NamedTuple):
    """A queue as gearmand knows it: its name of the type, and ((option, value), ...) of it."""

    type: str = "builtin"
    options: tuple = ()

    @property
    def backend(self):
        """Its Backend; of a type that is not offered, one that promises nothing."""
        return _BY_NAME.get(self.type, Backend(self.type))

    @property
    def survives_restart(self):
        """Whether queued jobs are there again after a restart."""
        return self.backend.survives_restart

    @property
    def accepts_delayed_jobs(self):
        """Whether it takes delayed jobs, with which drain.Intake closes a function."""
        return self.backend.accepts_delayed_jobs

    @property
    def path(self):
        """The file of libsqlite3, or None."""
        return dict(self.options).get("libsqlite3-db")

    def lines(self):
        """Return gearmand's options."""
        return [
            f"--queue-type={self.type}",
            *(f"--{name}={value}" for name, value in self.options),
        ]

    def same_jobs(self, other):
        """Return whether both are the same store, regardless of the login."""
        return (self.type, self._where()) == (other.type, other._where())

    def _where(self):
        return [
            (name, _without_login(value) if name == "libpq-conninfo" else str(value))
            for name, value in sorted(self.options)
            if name not in ("mysql-user", *SECRETS)
        ]


class Suboption(NamedTuple):
    """One suboption of a queue type.

    check(option, value): returns the value for gearmand; raises InvalidOption. option: gearmand's
    own; None for one that is part of the connection string (libpq-conninfo).
    """

    default: object
    check: object
    option: str = None


class Backend(NamedTuple):
    """All that is to be known of one of gearmand's queue types.

    name: gearmand's. suboptions: {name: Suboption}. defects: why it needs accept_known_defects.
    unit: the local database's, which systemd starts first. connection: gearmand's option with the
    connection string, made of the values. secrets: gearmand's options that are not shown.
    """

    name: str
    suboptions: dict = types.MappingProxyType({})
    survives_restart: bool = False
    accepts_delayed_jobs: bool = True
    defects: str = ""
    unit: str = None
    connection: tuple = None
    secrets: tuple = ()

    @property
    def options(self):
        """gearmand's options of this type."""
        names = [each.option for each in self.suboptions.values() if each.option]
        return names + ([self.connection[0]] if self.connection else [])


def _conninfo(values):
    """Return PostgreSQL's address as a URI, for the usual form has blanks."""

    def quote(text):
        return urllib.parse.quote(text, safe="")

    login = quote(values["user"])
    if values["password"] is not None:
        login += f":{quote(values['password'])}"
    host = values["host"] if ":" not in values["host"] else f"[{values['host']}]"
    return (
        f"postgresql://{login}@{quote(host) if host.startswith('/') else host}:{values['port']}"
        f"/{quote(values['database'])}"
    )


_DATABASE_NAME = queue_values.name_check(63)

BACKENDS = {
    "builtin": Backend("builtin"),
    "libsqlite3": Backend(
        "libsqlite3",
        {
            "path": Suboption(QUEUE_PATH, queue_values.path, "libsqlite3-db"),
            "table": Suboption(
                "gearman_queue",
                queue_values.name_check(64, sql_words.SQLITE, "sqlite_"),
                "libsqlite3-table",
            ),
        },
        survives_restart=True,
    ),
    "mysql": Backend(
        "MySQL",
        {
            # To libmariadb this is the socket, not TCP.
            "host": Suboption("localhost", queue_values.word, "mysql-host"),
            "port": Suboption(3306, queue_values.port, "mysql-port"),
            "user": Suboption("gearman", _DATABASE_NAME, "mysql-user"),
            "password": Suboption(None, queue_values.password, "mysql-password"),
            "database": Suboption("gearman", _DATABASE_NAME, "mysql-db"),
            "table": Suboption(
                "gearman_queue", queue_values.name_check(64, sql_words.MARIADB), "mysql-table"
            ),
        },
        survives_restart=True,
        unit="mariadb.service",
        secrets=("mysql-password",),
    ),
    "postgres": Backend(
        "Postgres",
        {
            # A directory is that of the socket.
            "host": Suboption("/run/postgresql", queue_values.word),
            "port": Suboption(5432, queue_values.port),
            "user": Suboption("gearman", _DATABASE_NAME),
            "password": Suboption(None, queue_values.any_password),
            "database": Suboption("gearman", _DATABASE_NAME),
            "table": Suboption(
                "queue", queue_values.name_check(63, sql_words.POSTGRES, "pg_"), "libpq-table"
            ),
        },
        # It damages jobs, but gives them back.
        survives_restart=True,
        defects="all jobs come back with high priority; a finished job whose function or unique id holds a "
        "quote runs again after each start; once the connection to the database was cut, every "
        "background job is refused until gearmand is restarted, and jobs finished meanwhile run again",
        unit="postgresql.service",
        connection=("libpq-conninfo", _conninfo),
    ),
    "redis": Backend(
        "redis",
        {
            "host": Suboption("127.0.0.1", queue_values.word, "redis-server"),
            "port": Suboption(6379, queue_values.port, "redis-port"),
            "password": Suboption(None, queue_values.password, "redis-password"),
            "prefix": Suboption(None, queue_values.word, "redis-prefix"),
        },
        # It damages jobs, but gives them back.
        survives_restart=True,
        accepts_delayed_jobs=False,
        defects="payloads come back cut at their first NUL byte; jobs of a function with '-' in its name come "
        "back under another name; delayed jobs are refused; once the connection to redis was cut, "
        "gearmand does not make a new one until it is restarted; restart: drain is not supported",
        unit="redis-server.service",
        secrets=("redis-password",),
    ),
    "memcached": Backend(
        "libmemcached",
        {
            "servers": Suboption(["127.0.0.1:11211"], queue_values.servers, "libmemcached-servers"),
            "prefix": Suboption(None, queue_values.word, "libmemcached-prefix"),
        },
        accepts_delayed_jobs=False,
        defects="a stop or a crash can lose some jobs or all of them; jobs of a function with '-' in its name "
        "come back under another name; delayed jobs are refused; restart: drain is not supported",
        unit="memcached.service",
    ),
}
_ALIASES = {"sqlite": "libsqlite3"}
TYPES = (*BACKENDS, *_ALIASES)
SECRETS = tuple(name for backend in BACKENDS.values() for name in backend.secrets)
_BY_NAME = {backend.name: backend for backend in BACKENDS.values()}


def typed_queue(given):
    """Return the Queue of {suboption: value, None for not given}. Raises InvalidOption."""
    kind = _ALIASES.get(given.get("type"), given.get("type") or "builtin")
    if kind not in BACKENDS:
        raise InvalidOption("queue.type", kind, "is not offered", f"Use {', '.join(TYPES)}")
    backend = BACKENDS[kind]
    for suboption, value in given.items():
        if value is None or suboption in (*_OF_ALL_TYPES, *backend.suboptions):
            continue
        raise InvalidOption(
            f"queue.{suboption}",
            NOT_SHOWN if suboption == "password" else value,
            f"has no meaning for the queue type {kind}",
            f"Leave it out; {kind} takes {', '.join(backend.suboptions) or 'nothing more'}",
        )
    if backend.defects and not given.get("accept_known_defects"):
        raise InvalidOption(
            "queue.type",
            kind,
            f"has known defects in Debian's gearmand: {backend.defects}",
            "Use libsqlite3 or mysql, or accept them with queue.accept_known_defects: true",
        )
    values = {}
    for suboption, (default, check, _option) in backend.suboptions.items():
        value = given.get(suboption)
        value = default if value is None else value
        values[suboption] = None if value is None else check(f"queue.{suboption}", value)
    if not given.get("accept_plaintext"):
        _check_local(kind, values)
    options = [
        (each.option, values[suboption])
        for suboption, each in backend.suboptions.items()
        if each.option and values[suboption] is not None
    ]
    if backend.connection:
        name, text = backend.connection
        options.insert(0, (name, text(values)))
    return Queue(backend.name, tuple(options))


def _without_login(uri):
    return re.sub(r"^(\w+://)[^@/]*@", r"\1", uri)


def _check_local(kind, values):
    """Refuse a database on another host: gearmand talks to it in plain text."""
    hosts = [values["host"]] if "host" in values else values.get("servers", "").split(",")
    for host in filter(None, hosts):
        name = host if "host" in values else host.partition(":")[0]
        if not queue_values.is_local(name):
            raise InvalidOption(
                "queue.host" if "host" in values else "queue.servers",
                host,
                f"is another host, to which gearmand sends jobs and {kind}'s password in plain text",
                "Use a database on this host, or reach it on 127.0.0.1 through a tunnel of TLS. Where the "
                "network itself is protected, accept it with queue.accept_plaintext: true",
            )


def running_queue(found):
    """Return the Queue of gearmand's own options, {option: value or None}."""
    backend = _BY_NAME.get(found["queue-type"], Backend(found["queue-type"]))
    options = [(name, found[name]) for name in backend.options if found.get(name) is not None]
    return Queue(backend.name, tuple(sorted(options)))


def option_names():
    """Return gearmand's options of all queue types."""
    return sorted({name for backend in BACKENDS.values() for name in backend.options})


def without_secrets(text):
    """Return a text with gearmand's options with stars in place of passwords."""
    secrets = "|".join(SECRETS)
    text = re.sub(rf"(--(?:{secrets})[= ])[^\s\"']+", r"\1***", text)
    return re.sub(r"(--libpq-conninfo[= ]\w+://[^:@/\s]*):[^@/\s]*@", r"\1:***@", text)
