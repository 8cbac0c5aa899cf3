# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where gearmand keeps background jobs: the queue types, typed and as gearmand's options. All pure.

What is said of each type was measured with the gearmand of Debian 12 and 13; docs/queues.md has
the figures, the scenario `queues` the tests.
"""

from __future__ import annotations

import os.path
import re
import urllib.parse
from typing import NamedTuple

from ..failure import InvalidOption

# Its removal would follow the package's purge anywhere below /var/lib/gearman.
QUEUE_PATH = "/var/lib/gearvisor/gearmand/queue.sqlite3"
# Empty after a reboot, or hidden from the service by systemd.
_NO_PLACES = ("/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var/run", "/var/tmp")
_NOT_SHOWN = "(not shown)"


class Queue(NamedTuple):
    """A queue as gearmand knows it: its name of the type, and ((option, value), ...) of it."""

    type: str = "builtin"
    options: tuple = ()

    @property
    def survives(self):
        """Tell whether queued jobs are there again after a restart."""
        return self.type in _SURVIVE

    @property
    def holds(self):
        """Tell whether it takes delayed jobs, with which drain.Intake closes a function."""
        return self.type not in ("redis", "libmemcached")

    @property
    def path(self):
        """Return the file of libsqlite3, or None."""
        return dict(self.options).get("libsqlite3-db")

    def lines(self):
        """Return gearmand's options."""
        return [
            f"--queue-type={self.type}",
            *(f"--{name}={value}" for name, value in self.options),
        ]

    def same_jobs(self, other):
        """Tell whether both are the same store, whoever logs in to it and how."""
        return (self.type, self._where()) == (other.type, other._where())

    def _where(self):
        return [
            (name, _without_login(value) if name == "libpq-conninfo" else str(value))
            for name, value in sorted(self.options)
            if name not in ("mysql-user", *_SECRETS)
        ]


class _Suboption(NamedTuple):
    default: object
    check: object
    # None: conninfo says it.
    option: str = None


class _Kind(NamedTuple):
    name: str
    suboptions: dict
    defects: str = ""


def _word(option, value):
    if re.fullmatch(r"[^\s\0-\x1f\"'\\-][^\s\0-\x1f\"'\\]*", value):
        return value
    raise InvalidOption(
        option,
        value,
        "is empty, begins with '-' or holds white space, a quote or a backslash, which gearmand's file "
        "cannot carry",
        "Use a name without them",
    )


def _name(option, value):
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        return value
    raise InvalidOption(
        option,
        value,
        "is no usable name",
        "Use letters, digits and '_', beginning with no digit",
    )


def _port(option, value):
    if 1 <= value <= 65535:
        return value
    raise InvalidOption(option, value, "is not from 1 to 65535", "Use the database's port")


def _path(option, value):
    _word(option, value)
    if not value.startswith("/") or value.endswith("/") or "--" in value:
        raise InvalidOption(
            option, value, "is no absolute path of a file", f"Use {QUEUE_PATH}, say"
        )
    path = os.path.normpath(value)
    if path == "/" or any(path.startswith(f"{place}/") for place in _NO_PLACES):
        raise InvalidOption(
            option,
            value,
            "is where no queue can stay: systemd hides that place from the service, or a reboot empties it",
            f"Use {QUEUE_PATH}, say, or a path below /srv",
        )
    return path


def _password(option, value):
    if re.fullmatch(r"[!-~]+", value) and not re.search(r"[\"'\\]", value):
        return value
    raise InvalidOption(
        option,
        _NOT_SHOWN,
        "is empty or holds white space, a quote, a backslash or a letter beyond ASCII, which gearmand's "
        "file cannot carry",
        "Use another password, or none and a login without one (docs/queues.md)",
    )


def _any_password(option, value):
    """Check a password that is written percent-encoded."""
    if value and "\0" not in value:
        return value
    raise InvalidOption(option, _NOT_SHOWN, "is empty", "Leave it out for a login without one")


def _servers(option, value):
    for server in value:
        _word(option, server)
        if "," in server or not re.fullmatch(r"[^:]+(:\d{1,5})?", server):
            raise InvalidOption(option, server, "is no host:port", "Use 127.0.0.1:11211, say")
    if not value:
        raise InvalidOption(option, value, "is empty", "Use [127.0.0.1:11211], say")
    return ",".join(value)


_KINDS = {
    "builtin": _Kind("builtin", {}),
    "libsqlite3": _Kind(
        "libsqlite3",
        {
            "path": _Suboption(QUEUE_PATH, _path, "libsqlite3-db"),
            "table": _Suboption("gearman_queue", _name, "libsqlite3-table"),
        },
    ),
    "mysql": _Kind(
        "MySQL",
        {
            # To libmariadb this is the socket, not TCP.
            "host": _Suboption("localhost", _word, "mysql-host"),
            "port": _Suboption(3306, _port, "mysql-port"),
            "user": _Suboption("gearman", _name, "mysql-user"),
            "password": _Suboption(None, _password, "mysql-password"),
            "database": _Suboption("gearman", _name, "mysql-db"),
            "table": _Suboption("gearman_queue", _name, "mysql-table"),
        },
    ),
    "postgres": _Kind(
        "Postgres",
        {
            # A directory is that of the socket.
            "host": _Suboption("/run/postgresql", _word),
            "port": _Suboption(5432, _port),
            "user": _Suboption("gearman", _name),
            "password": _Suboption(None, _any_password),
            "database": _Suboption("gearman", _name),
            "table": _Suboption("queue", _name, "libpq-table"),
        },
        "all jobs come back with high priority; a finished job whose function or unique id holds a "
        "quote runs again after each start; once the connection to the database was cut, every "
        "background job is refused until gearmand is restarted, and jobs finished meanwhile run again",
    ),
    "redis": _Kind(
        "redis",
        {
            "host": _Suboption("127.0.0.1", _word, "redis-server"),
            "port": _Suboption(6379, _port, "redis-port"),
            "password": _Suboption(None, _password, "redis-password"),
            "prefix": _Suboption(None, _word, "redis-prefix"),
        },
        "payloads come back cut at their first NUL byte; jobs of a function with '-' in its name come "
        "back under another name; delayed jobs are refused; once the connection to redis was cut, "
        "gearmand does not make a new one until it is restarted; restart: drain cannot be had",
    ),
    "memcached": _Kind(
        "libmemcached",
        {
            "servers": _Suboption(["127.0.0.1:11211"], _servers, "libmemcached-servers"),
            "prefix": _Suboption(None, _word, "libmemcached-prefix"),
        },
        "a stop or a crash can lose some jobs or all of them; jobs of a function with '-' in its name "
        "come back under another name; delayed jobs are refused; restart: drain cannot be had",
    ),
}
_ALIASES = {"sqlite": "libsqlite3"}
TYPES = (*_KINDS, *_ALIASES)
# redis and PostgreSQL damage jobs, but give them back.
_SURVIVE = ("libsqlite3", "MySQL", "Postgres", "redis")
_SECRETS = ("mysql-password", "redis-password")
# Where systemd shall look for the local database before it starts gearmand.
UNITS = {
    "MySQL": "mariadb.service",
    "Postgres": "postgresql.service",
    "redis": "redis-server.service",
    "libmemcached": "memcached.service",
}


def typed_queue(given):
    """Return the Queue of {suboption: value, None for not given}. Raises InvalidOption."""
    kind = _ALIASES.get(given.get("type"), given.get("type") or "builtin")
    if kind not in _KINDS:
        raise InvalidOption("queue.type", kind, "is not offered", f"Use {', '.join(TYPES)}")
    name, suboptions, defects = _KINDS[kind]
    for suboption, value in given.items():
        if value is None or suboption in ("type", "accept_known_defects", *suboptions):
            continue
        raise InvalidOption(
            f"queue.{suboption}",
            _NOT_SHOWN if suboption == "password" else value,
            f"has no meaning for the queue type {kind}",
            f"Leave it out; {kind} takes {', '.join(suboptions) or 'nothing more'}",
        )
    if defects and not given.get("accept_known_defects"):
        raise InvalidOption(
            "queue.type",
            kind,
            f"has known defects in Debian's gearmand: {defects}",
            "Use libsqlite3 or mysql, or accept them with queue.accept_known_defects: true",
        )
    values = {}
    for suboption, (default, check, _option) in suboptions.items():
        value = given.get(suboption)
        value = default if value is None else value
        values[suboption] = None if value is None else check(f"queue.{suboption}", value)
    options = [
        (option, values[suboption])
        for suboption, (_default, _check, option) in suboptions.items()
        if option and values[suboption] is not None
    ]
    if kind == "postgres":
        options.insert(0, ("libpq-conninfo", _conninfo(values)))
    return Queue(name, tuple(options))


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


def _without_login(uri):
    return re.sub(r"^(\w+://)[^@/]*@", r"\1", uri)


def running_queue(found):
    """Return the Queue of gearmand's own options, {option: value or None}."""
    for kind in _KINDS.values():
        if kind.name == found["queue-type"]:
            names = {suboption.option for suboption in kind.suboptions.values()} - {None}
            if kind.name == "Postgres":
                names.add("libpq-conninfo")
            options = [(name, found[name]) for name in names if found.get(name) is not None]
            return Queue(kind.name, tuple(sorted(options)))
    return Queue(found["queue-type"])


def option_names():
    """Return gearmand's options of all queue types."""
    names = {suboption.option for kind in _KINDS.values() for suboption in kind.suboptions.values()}
    return sorted(names - {None} | {"libpq-conninfo"})


def without_secrets(text):
    """Return a configuration's text with stars in place of passwords."""
    secrets = "|".join(_SECRETS)
    text = re.sub(rf"^(--(?:{secrets})=).*$", r"\1***", text, flags=re.MULTILINE)
    return re.sub(
        r"^(--libpq-conninfo=\w+://[^:@/]*):[^@/]*@", r"\1:***@", text, flags=re.MULTILINE
    )
