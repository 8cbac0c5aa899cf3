#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_queue_database
short_description: Prepare MariaDB or PostgreSQL for gearmand's queue
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Installs Debian's C(mariadb-server) or C(postgresql) where it is missing, starts it, and ensures
    that the database and the user exist and that the user may create and use a table. gearmand creates
    the table itself.
  - Runs on the database's host, as the database's own administrator. Nothing is ever dropped.
requirements:
  - Debian 12 or 13 on the target.
options:
  type:
    description: V(mysql) is MariaDB.
    type: str
    choices: [mysql, postgres]
    required: true
  database:
    description: The database. With V(postgres) it belongs to O(user).
    type: str
    default: gearman
  user:
    description: The database user that gearmand logs in as.
    type: str
    default: gearman
  password:
    description:
      - Its password. Unset, the database lets the system's user of that name in by the socket; a
        PostgreSQL user that has a password keeps it.
      - It is on no command line and in no file; the database gets only what it stores of it.
    type: str
  client_host:
    description:
      - From which host V(mysql) lets the user in; may hold V(%). Any but V(localhost) needs O(password).
        PostgreSQL has its C(pg_hba.conf) for
        that, which this module leaves alone.
    type: str
    default: localhost
  lock_timeout:
    description: How many seconds to wait for another run that changes this host.
    type: int
    default: 300
  untested_release:
    description: Continue on a Debian release with which this was not tested.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Inspects, and changes nothing. If the server is missing or stopped, reports what would come first.
  diff_mode:
    support: full
    description: Shows what is done, without passwords.
  idempotent:
    support: full
    description: A second call changes nothing.
"""

EXAMPLES = r"""
- name: The queue's database on the job server's host, with no password
  gearman_queue_database:
    type: mysql

- name: On a separate host
  gearman_queue_database:
    type: mysql
    password: "{{ gearman_queue_password }}"
    client_host: 192.0.2.11
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["create database gearman", "create user 'gearman'@'localhost'"]
"""

from ..module_utils import module
from ..module_utils.job_server import queue_database

ARGUMENTS = {
    "type": {"type": "str", "choices": ["mysql", "postgres"], "required": True},
    "database": {"type": "str", "default": "gearman"},
    "user": {"type": "str", "default": "gearman"},
    "password": {"type": "str", "no_log": True},
    "client_host": {"type": "str", "default": "localhost"},
    **module.HOST_ARGUMENTS,
}


def main():
    module.run(ARGUMENTS, queue_database.converge)


if __name__ == "__main__":
    main()
