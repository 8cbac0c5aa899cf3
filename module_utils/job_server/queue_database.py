# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares MariaDB or PostgreSQL on this host for gearmand's queue: database, user and rights.

The servers' own clients do it as their administrators, identified by the system's user.
They get SQL on standard input; it holds of the password only what the server itself stores. The
table is created by gearmand.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import time
import unicodedata
from typing import NamedTuple

from ..failure import GearvisorError, InvalidOption, Refused
from ..host import packages
from ..keeper.packaged import Packaged, VerbFailed
from ..outcome import Outcome, prepared
from . import queue_values

_START_SECONDS = 60
_ITERATIONS = 4096


class Request(NamedTuple):
    """The requested database and user; the names are the module's options."""

    type: str
    database: str = "gearman"
    user: str = "gearman"
    password: str = None
    client_host: str = "localhost"


class Server(NamedTuple):
    """A database server as Debian packages it, and the functions that speak its SQL."""

    package: str
    service: str
    client: list
    questions: object
    statements: object


_CHECKED_NAMES = {"database": queue_values.name_check(63), "user": queue_values.name_check(63)}
_LONGEST_HOST = 253
_LONGEST_PASSWORD = 1024


def check(request):
    """Raise InvalidOption for values that cannot work."""
    for option, check_name in _CHECKED_NAMES.items():
        check_name(option, getattr(request, option))
    client_host = request.client_host
    if len(client_host) > _LONGEST_HOST or not re.fullmatch(r"[A-Za-z0-9_.:%-]+", client_host):
        raise InvalidOption(
            "client_host",
            client_host,
            "is not a host name or address",
            "Use for example localhost",
        )
    if client_host != "localhost" and request.type == "postgres":
        raise InvalidOption(
            "client_host",
            client_host,
            "is for mysql: PostgreSQL keeps hosts in pg_hba.conf",
            "Leave it out, and allow the host there",
        )
    if client_host != "localhost" and request.password is None:
        raise InvalidOption(
            "client_host",
            client_host,
            "needs a password: without one MariaDB knows the user by the socket of its own host, so that a "
            "login from elsewhere is always refused",
            "Give password, or leave client_host out",
        )
    password = request.password
    if password is not None and (
        not 1 <= len(password) <= _LONGEST_PASSWORD or re.search(r"[\0\ud800-\udfff]", password)
    ):
        raise InvalidOption(
            "password",
            "(not shown)",
            f"is empty, longer than {_LONGEST_PASSWORD}, or holds NUL or an incomplete character",
            "Leave it out for a login by the system's user",
        )


def converge(params, host):
    """Make the database and its user as requested; return the module's Outcome.

    Raises GearvisorError.
    """
    request = Request(**{name: params[name] for name in Request._fields})
    check(request)
    server, run = SERVERS[request.type], host.run
    actions = []
    if not packages.installed_versions(run, [server.package]):
        actions.append(f"install {server.package}")
        if host.check_mode:
            return _outcome([*actions, f"create database {request.database} for {request.user}"])
        packages.install(run, [server.package], f"type: {request.type!r}")
    if _ask(server, run, "SELECT 1;\n")[0] != 0:
        actions.append(f"start {server.service}")
        if host.check_mode:
            return _outcome(actions)
        _start(server, host)
    found = [_answer(server, run, question) for question in server.questions(request)]
    todo = server.statements(request, *found)
    if todo and not host.check_mode:
        _answer(server, run, "".join(f"{statement};\n" for _action, statement in todo))
    return _outcome(actions + [action for action, _statement in todo])


def _outcome(actions):
    return Outcome(changed=bool(actions), actions=actions, diff=prepared(actions))


def _ask(server, run, sql):
    return run(server.client, data=sql, cwd="/")


def _answer(server, run, sql):
    """Return the server's answer, as a list of lists of columns."""
    rc, out, err = _ask(server, run, sql)
    if rc != 0:
        raise GearvisorError(
            f"{server.package} refuses its administrator's request: {err.strip()}. This module logs in by "
            "the system's user, root for MariaDB and postgres for PostgreSQL, as Debian sets it up"
        )
    return [line.split("\t") for line in out.splitlines()]


def _start(server, host):
    service = Packaged(server.service, host)
    failed = None
    try:
        service.prepare()
        service.start()
    except VerbFailed as error:
        failed = error.reason
    deadline = time.monotonic() + _START_SECONDS
    while True:
        asked, _out, answer = _ask(server, host.run, "SELECT 1;\n")
        if asked == 0:
            return
        if failed or time.monotonic() >= deadline:
            raise GearvisorError(
                f"{server.service} does not answer after its start: {failed or answer.strip()}. See its "
                "log, then run this again"
            )
        time.sleep(0.2)


def _mysql_questions(request):
    user = f"User='{request.user}' AND Host='{request.client_host}'"
    yield f"SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='{request.database}';\n"
    yield f"SELECT plugin, authentication_string FROM mysql.user WHERE {user};\n"
    yield (
        "SELECT 1 FROM mysql.db WHERE CONCAT(Select_priv, Insert_priv, Update_priv, Delete_priv, "
        f"Create_priv)='YYYYY' AND Db='{_pattern(request.database, 2)}' AND {user};\n"
    )


def _pattern(database, backslashes):
    """Return the name for GRANT, to which a bare '_' is any character."""
    return database.replace("_", "\\" * backslashes + "_")


def mysql_statements(request, databases, users, rights):
    """Return [(action in words, SQL)] that is left to do; the arguments are the server's answers."""
    account = f"'{request.user}'@'{request.client_host}'"
    todo = []
    if not databases:
        todo.append((f"create database {request.database}", f"CREATE DATABASE {request.database}"))
    if request.password is None:
        wanted, how = ["unix_socket", ""], "VIA unix_socket"
    else:
        digest = mysql_digest(request.password)
        wanted, how = ["mysql_native_password", digest], f"BY PASSWORD '{digest}'"
    if not users:
        todo.append((f"create user {account}", f"CREATE USER {account} IDENTIFIED {how}"))
    elif users[0] != wanted:
        todo.append((f"change login of {account}", f"ALTER USER {account} IDENTIFIED {how}"))
    if not rights:
        name = f"`{_pattern(request.database, 1)}`"
        grant = f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {name}.* TO {account}"
        todo.append((f"grant {request.database} to {account}", grant))
    return todo


def mysql_digest(password):
    """Return what MariaDB keeps of a password (mysql_native_password)."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


def _postgres_questions(request):
    yield f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname='{request.database}';\n"
    yield (
        "SELECT rolcanlogin, coalesce(rolpassword, '') FROM pg_authid "
        f"WHERE rolname='{request.user}';\n"
    )


def postgres_statements(request, owners, roles):
    """Return [(action in words, SQL)] that is left to do; the arguments are the server's answers."""
    if owners and owners[0] != [request.user]:
        raise Refused(
            "database",
            request.database,
            f"belongs to {owners[0][0]}, so {request.user} may make no table there",
            "Use another database, or the user that owns it",
        )
    todo = []
    wanted = f'"{request.user}" LOGIN'
    if request.password is not None:
        wanted += f" PASSWORD '{scram_verifier(request.password, os.urandom(16))}'"
    if not roles:
        todo.append((f"create user {request.user}", f"CREATE ROLE {wanted}"))
    elif roles[0][0] != "t" or not _verifies(roles[0][1], request.password):
        todo.append((f"change login of {request.user}", f"ALTER ROLE {wanted}"))
    if not owners:
        sql = (
            f'CREATE DATABASE "{request.database}" OWNER "{request.user}" TEMPLATE template0 '
            "ENCODING 'UTF8'"
        )
        todo.append((f"create database {request.database}", sql))
    return todo


def scram_verifier(password, salt, iterations=_ITERATIONS):
    """Return what PostgreSQL keeps of a password (RFC 5803; RFC 7677's SCRAM-SHA-256)."""
    text = unicodedata.normalize("NFKC", password).encode()
    salted = hashlib.pbkdf2_hmac("sha256", text, salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    served = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored, served = (base64.b64encode(each).decode() for each in (salt, stored, served))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{served}"


def _verifies(verifier, password):
    """Return whether what PostgreSQL keeps is of this password; without one anything will do."""
    if password is None:
        return True
    match = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$.+", verifier)
    if match is None:
        return False
    salt = base64.b64decode(match.group(2))
    return hmac.compare_digest(scram_verifier(password, salt, int(match.group(1))), verifier)


SERVERS = {
    "mysql": Server(
        "mariadb-server",
        "mariadb",
        ["mariadb", "--batch", "--skip-column-names", "--user=root"],
        _mysql_questions,
        mysql_statements,
    ),
    "postgres": Server(
        "postgresql",
        "postgresql",
        [
            *("runuser", "--user", "postgres", "--"),
            *(
                "psql",
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "--field-separator=\t",
            ),
            "--set=ON_ERROR_STOP=1",
        ],
        _postgres_questions,
        postgres_statements,
    ),
}
