# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a libsqlite3 queue, while no gearmand uses it. playbooks/move_queue.yml runs this.

    queue_file.py count FILE TABLE            how many jobs are in it
    queue_file.py merge FILE TABLE INCOMING   move all jobs of the file INCOMING into it

Each prints one JSON document. It works as the owner of the file's directory. A job that both files
have, by its function and unique id, is one job to gearmand, and stays one.
"""

import contextlib
import json
import os
import re
import sqlite3
import sys

# As gearmand makes it (libgearman-server/plugins/queue/sqlite).
COLUMNS = "unique_key, function_name, priority, data, when_to_run"
CREATE = """CREATE TABLE IF NOT EXISTS {table} (unique_key TEXT, function_name TEXT,
priority INTEGER, data BLOB, when_to_run INTEGER, PRIMARY KEY(unique_key, function_name))"""


def count(connection, table, schema="main"):
    """Return the number of jobs; a file without the table has none."""
    known = connection.execute(
        f"SELECT count(*) FROM {schema}.sqlite_master WHERE type = 'table' AND name = ?", (table,)
    )
    if not known.fetchone()[0]:
        return 0
    return connection.execute(f"SELECT count(*) FROM {schema}.{table}").fetchone()[0]


def merge(connection, table, incoming):
    """Move the jobs in one transaction over both files, which SQLite makes whole or not at all."""
    connection.execute("ATTACH DATABASE ? AS incoming", (incoming,))
    connection.execute("BEGIN IMMEDIATE")
    given = count(connection, table, "incoming")
    before = count(connection, table)
    if given:
        connection.execute(CREATE.format(table=table))
        connection.execute(
            f"INSERT OR IGNORE INTO main.{table} ({COLUMNS}) "
            f"SELECT {COLUMNS} FROM incoming.{table} ORDER BY rowid"
        )
        connection.execute(f"DELETE FROM incoming.{table}")
    after = count(connection, table)
    connection.execute("COMMIT")
    return {"moved": after - before, "known": given - (after - before), "jobs": after}


def become_owner(directory):
    """Act as the owner of the directory, who could lead root astray with links."""
    owner = os.stat(directory)
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
        os.umask(0o077)


def main(command, path, table, *incoming):
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table):
        raise SystemExit(f"{table!r} is not the name of a table")
    if not os.path.isdir(os.path.dirname(path)) or (
        command == "count" and not os.path.lexists(path)
    ):
        return {"jobs": 0}
    become_owner(os.path.dirname(path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A connection of its own process would be a gearmand that still runs.
        connection.execute("PRAGMA busy_timeout = 1000")
        if command == "merge":
            return merge(connection, table, *incoming)
        connection.execute("BEGIN IMMEDIATE")
        jobs = count(connection, table)
        connection.execute("COMMIT")
        return {"jobs": jobs}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
