"""What is left to do, as tables of what the servers answer; the scenario `queues` has the real ones."""

from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
    Refused,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import queue_database

# PASSWORD('secret') of MariaDB.
DIGEST = "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"
MYSQL = queue_database.Request("mysql", "jobs_db")
POSTGRES = queue_database.Request("postgres")


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("database", {"database": "a b"}),
        ("database", {"database": ""}),
        ("user", {"user": "x'; drop"}),
        ("client_host", {"client_host": "h'"}),
        ("client_host", {"type": "postgres", "client_host": "%"}),
        ("password", {"password": ""}),
        ("password", {"password": "a\0b"}),
        ("client_host", {"client_host": "192.0.2.11"}),
        ("client_host", {"client_host": "%"}),
        ("database", {"database": "x" * 64}),
        ("password", {"password": "\udcff"}),
    ],
)
def test_refused(option, values):
    with pytest.raises(InvalidOption) as caught:
        queue_database.check(queue_database.Request(**{"type": "mysql", **values}))
    assert caught.value.details["option"] == option


@pytest.mark.parametrize(
    ("password", "databases", "users", "rights", "expected"),
    [
        (
            None,
            [],
            [],
            [],
            [
                "CREATE DATABASE jobs_db",
                "CREATE USER 'gearman'@'localhost' IDENTIFIED VIA unix_socket",
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON `jobs\\_db`.* "
                "TO 'gearman'@'localhost'",
            ],
        ),
        (None, [["jobs_db"]], [["unix_socket", ""]], [["1"]], []),
        ("secret", [["jobs_db"]], [["mysql_native_password", DIGEST]], [["1"]], []),
        (
            "secret",
            [["jobs_db"]],
            [["unix_socket", ""]],
            [["1"]],
            [f"ALTER USER 'gearman'@'localhost' IDENTIFIED BY PASSWORD '{DIGEST}'"],
        ),
    ],
)
def test_mysql(password, databases, users, rights, expected):
    todo = queue_database.mysql_statements(
        MYSQL._replace(password=password), databases, users, rights
    )
    assert [statement for _action, statement in todo] == expected
    assert "secret" not in str(todo)
    assert DIGEST not in str([action for action, _statement in todo])


def test_the_pattern_of_a_grant():
    assert queue_database._pattern("a_b", 1) == "a\\_b"


VERIFIER = queue_database.scram_verifier("secret", b"0123456789abcdef")


@pytest.mark.parametrize(
    ("password", "owners", "roles", "actions"),
    [
        (None, [], [], ["create user gearman", "create database gearman"]),
        (None, [["gearman"]], [["t", VERIFIER]], []),
        ("secret", [["gearman"]], [["t", VERIFIER]], []),
        ("other", [["gearman"]], [["t", VERIFIER]], ["change login of gearman"]),
        ("secret", [["gearman"]], [["t", ""]], ["change login of gearman"]),
        ("secret", [["gearman"]], [["f", VERIFIER]], ["change login of gearman"]),
        ("secret", [], [["t", VERIFIER]], ["create database gearman"]),
    ],
)
def test_postgres(password, owners, roles, actions):
    todo = queue_database.postgres_statements(POSTGRES._replace(password=password), owners, roles)
    assert [action for action, _statement in todo] == actions
    assert "secret" not in str(todo)


def test_a_database_of_somebody_else_is_left_to_them():
    with pytest.raises(Refused, match="belongs to root"):
        queue_database.postgres_statements(POSTGRES, [["root"]], [])


def test_scram_verifier():
    """The example of RFC 7677: its server signature follows from these keys."""
    import base64
    import hashlib
    import hmac

    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = queue_database.scram_verifier("pencil", salt)
    served = base64.b64decode(verifier.rpartition(":")[2])
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.new(served, message, hashlib.sha256).digest()
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


PARAMS = MYSQL._asdict()


def test_a_server_that_is_not_there_is_planned_in_check_mode():
    outcome = queue_database.converge(PARAMS, Host(lambda *_, **__: (1, "", ""), check_mode=True))
    assert outcome.changed
    assert outcome.actions[0] == "install mariadb-server"


def test_a_refusal_shows_whose_login_it_was():
    def run(argv, data=None, cwd=None):
        if argv[0] == "dpkg-query":
            return 0, "ii  mariadb-server 1\n", ""
        return (0, "", "") if data == "SELECT 1;\n" else (1, "", "ERROR 1142 denied\n")

    with pytest.raises(GearvisorError, match=r"ERROR 1142 denied.* root for MariaDB"):
        queue_database.converge(PARAMS, Host(run))
