#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_job_server
short_description: Run a Gearman job server without losing jobs to its configuration
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Installs Debian's C(gearman-job-server), writes its configuration, keeps it running with systemd
    or, on hosts without it, with Supervisor, and waits until its admin port answers.
  - Every value, the port, the package version and gearmand's own reading of the configuration are
    checked before anything is changed. When the new server does not answer, the old files and the
    old server are restored.
  - gearmand reads its configuration only when it starts, and a restart forgets the jobs in memory.
    So O(restart) decides, and by default a restart that would lose jobs is refused.
  - gearmand has no authentication, and Debian's build ignores C(--ssl). Let it listen on the
    loopback or a private address, behind a firewall and a TLS tunnel.
requirements:
  - Debian 12 or 13 on the target; without systemd also a running Supervisor.
options:
  state:
    description:
      - V(present) is configured, started and answering.
      - V(restarted) is the same, and restarts it also when nothing changed, as O(restart) allows.
      - V(stopped) stops it as O(restart) allows, until it is started again or the host is. Nothing else
        is inspected.
      - V(absent) stops it and removes the service, Gearvisor's files and the package. Queue files and the
        package's own configuration stay. Refused while jobs wait, unless O(restart=force).
    type: str
    choices: [present, restarted, stopped, absent]
    default: present
  version:
    description:
      - The package's version, or its beginning and V(*). V(latest) is the newest that apt's lists have.
        Unset, any installed version is accepted.
    type: str
  listen:
    description:
      - The IP address or host name to listen on; V(0.0.0.0) is all of IPv4, V(::) all of IPv6. gearmand
        takes one, and listens on all addresses of a name. A list is refused.
    type: str
    default: 127.0.0.1
  port:
    description: The TCP port.
    type: int
    default: 4730
  threads:
    description: Threads for connections; V(0) lets gearmand choose.
    type: int
    default: 4
  backlog:
    description: How many connections may wait to be accepted. Raise it for many short-lived clients.
    type: int
    default: 32
  job_retries:
    description:
      - How many workers may be lost over one job before it fails, 1 to 255. gearmand's own default
        hands a job that kills its worker to all of them, endlessly.
    type: int
    default: 3
  round_robin:
    description:
      - Take turns between the functions of a worker. Otherwise the function it registered last is
        served first, and others may starve.
    type: bool
    default: true
  ssl:
    description:
      - gearmand's own TLS, which is refused. Debian builds gearmand without it. The daemon accepts
        C(--ssl), logs that TLS is on, and continues in plain text. Use the role
        P(gearvisor.gearvisor.gearman_tunnel#role).
    type: bool
    default: false
  worker_wakeup:
    description: How many sleeping workers a new job wakes, 0 to 255; V(0) is all.
    type: int
    default: 0
  keepalive:
    description: Let the kernel notice vanished peers (TCP keepalive).
    type: bool
    default: true
  file_descriptors:
    description:
      - How many files, so about how many connections, gearmand may have open. Unset, 65536 or what the
        host allows, whichever is less.
    type: int
  exceptions:
    description:
      - Send the text of an exception to every client, not only to those that ask for it. Clients of
        libgearman in C, the C(gearman) tool, Perl and node hang or fail when a function raises and
        they did not ask, since gearmand's answer to them is malformed.
    type: bool
    default: false
  hashtable_buckets:
    description:
      - Buckets of the tables in which gearmand finds jobs, 1 to 10000000. Unset, gearmand takes 991, enough
        for some 3 million queued jobs.
    type: int
  job_handle_prefix:
    description:
      - What job handles begin with, at most 40 letters, digits, dots, underscores, colons and hyphens.
        Unset, it is C(H:) and the host's name.
    type: str
  extra_options:
    description:
      - Options of gearmand that have no option here, as V(--keepalive-idle=30). gearmand itself checks them
        before anything is changed.
      - Those with an option here, and those that would break a guarantee of this module (C(--ssl),
        C(--daemon), C(--protocol), C(--store-queue-on-shutdown) and others), are refused with the reason.
    type: list
    elements: str
    default: []
  verbosity:
    description:
      - What gearmand logs. The default is gearmand's own, since V(NOTICE) and beyond write a line for
        every job and V(INFO) one for every connection.
    type: str
    choices: [FATAL, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG]
    default: ERROR
  memory_max:
    description:
      - How much memory it may use, as systemd's C(MemoryMax) has it, for example V(2G) or V(50%). Above that the
        kernel ends it, and it comes back; jobs in memory are then lost. Unset, memory is not limited.
      - Takes effect without a restart. Not without systemd.
    type: str
  queue:
    description:
      - Where background jobs are kept. Foreground jobs are in memory always.
      - A suboption that has no meaning for O(queue.type) is refused.
    type: dict
    default: {}
    suboptions:
      type:
        description:
          - V(builtin) is memory. V(libsqlite3) (or V(sqlite)) is a file, which survives restarts and
            crashes, and is recommended. V(mysql) is MariaDB or MySQL.
          - V(postgres), V(redis) and V(memcached) lose or alter jobs, and need
            O(queue.accept_known_defects). Without it the refusal lists the defects.
          - In all but V(builtin) each background job needs a different unique id, as jobs of a function
            without one replace each other or are refused.
        type: str
        choices: [builtin, libsqlite3, mysql, postgres, redis, memcached, sqlite]
        default: builtin
      path:
        description:
          - The file of V(libsqlite3). A missing directory is made for the user C(gearman).
          - Unset, it is V(/var/lib/gearvisor/gearmand/queue.sqlite3), which a purge of the package
            leaves alone.
        type: path
      host:
        description:
          - Where V(mysql), V(postgres) or V(redis) is. Unset, it is this host, by the socket, for redis
            by V(127.0.0.1). Another host needs O(queue.accept_plaintext).
        type: str
      port:
        description: Its port. Unset, it is V(3306), V(5432) or V(6379).
        type: int
      user:
        description: The user of V(mysql) or V(postgres). Unset, it is V(gearman).
        type: str
      password:
        description:
          - The password for V(mysql), V(postgres) or V(redis). Unset, none is sent, which is enough for a
            database on this host that knows the system's users.
          - It is stored in gearmand's configuration, which root and the group C(gearman) may read, and
            nowhere else. For mysql and redis it must be printable ASCII without white space, quotes and
            backslashes.
        type: str
      database:
        description: The database of V(mysql) or V(postgres). Unset, it is V(gearman).
        type: str
      table:
        description:
          - The table of V(libsqlite3), V(mysql) or V(postgres), which gearmand makes. Unset, it is
            V(gearman_queue), with postgres V(queue). Words of the database's SQL are refused.
        type: str
      prefix:
        description: What keys begin with in V(redis) or V(memcached). Unset, gearmand chooses.
        type: str
      servers:
        description: The V(memcached) servers as V(host:port). Unset, it is V(127.0.0.1:11211).
        type: list
        elements: str
      accept_known_defects:
        description: Use V(postgres), V(redis) or V(memcached) although they lose or alter jobs.
        type: bool
        default: false
      accept_plaintext:
        description:
          - Use a database on another host although gearmand sends it jobs and its password in plain text.
            A tunnel to V(127.0.0.1) does not need this.
        type: bool
        default: false
  restart:
    description:
      - What to do when gearmand runs and has to be restarted or stopped.
      - V(auto) does so when no job would be lost, and otherwise fails before anything is changed.
        Background jobs in a queue that survives and that the new configuration uses too are not lost;
        those that run then run again.
      - V(drain) closes it to new jobs, which are refused with C(QUEUE_ERROR) meanwhile, and waits until
        its workers have done those it has, O(drain_timeout) at most. Connections stay.
      - V(force) does so at once, and returns what was lost.
      - V(never) writes the files only, and returns C(restart_pending).
    type: str
    choices: [auto, drain, force, never]
    default: auto
  drain_timeout:
    description:
      - How many seconds it may drain. Then the task fails, gearmand takes jobs again, and nothing but
        possibly the package was changed.
    type: int
    default: 300
  service_manager:
    description: What keeps gearmand running. V(auto) is systemd where it runs, else Supervisor.
    type: str
    choices: [auto, systemd, supervisor]
    default: auto
  ready_timeout:
    description: How many seconds after its start it may take to answer. A large queue file takes time.
    type: int
    default: 30
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
    description: Makes all checks and decisions, the refusal of a restart included, and touches nothing.
  diff_mode:
    support: full
    description: Shows the files, and what is done to the package and the service.
  idempotent:
    support: full
    description: A second call changes nothing.
"""

EXAMPLES = r"""
- name: A job server for this host
  gearman_job_server:

- name: One for a private network, whose background jobs survive restarts
  gearman_job_server:
    listen: "{{ private_address }}"
    queue:
      type: libsqlite3

- name: One whose background jobs are in the MariaDB of this host
  gearman_job_server:
    queue:
      type: mysql
      password: "{{ gearman_queue_password }}"

- name: Stop it for maintenance, once all jobs are done
  gearman_job_server:
    state: stopped
    restart: drain

- name: Change the configuration, but finish all jobs first
  gearman_job_server:
    threads: 8
    restart: drain
    drain_timeout: 600
"""

RETURN = r"""
needs:
  description: V(supervisord) when the job server is to run under Supervisor, and that is missing or does not answer.
  returned: failure for that reason; nothing was changed
  type: str
server:
  description: Where a client on this host reaches it.
  returned: state is present or restarted
  type: str
  sample: 127.0.0.1:4730
version:
  description: The version that the server reports; none in check mode or while a restart is pending if nothing answers.
  returned: state is present or restarted
  type: str
  sample: 1.1.21+ds
package_version:
  description: The installed package's version.
  returned: state is present or restarted
  type: str
  sample: 1.1.21+ds-1
service_manager:
  description: V(systemd) or V(supervisor).
  returned: success
  type: str
workers:
  description: Workers by function, as they were before.
  returned: unless O(state=absent)
  type: dict
  sample: {"resize": 4}
files:
  description: Files written or removed.
  returned: success
  type: list
  elements: str
actions:
  description: What was, or in check mode would be, done to the package and the service.
  returned: success
  type: list
  elements: str
  sample: ["install gearman-job-server", "start gearmand"]
restarted:
  description: Whether a running server was restarted.
  returned: state is present or restarted
  type: bool
restart_pending:
  description: Whether the server still runs with an older configuration or version.
  returned: state is present or restarted
  type: bool
lost:
  description: Jobs by function that were lost, or on refusal would be.
  returned: success, or when a restart is refused
  type: dict
  sample: {"resize": {"queued": 3, "running": 1}}
left:
  description: Jobs by function that were left when O(drain_timeout) had passed; gearmand continues with them.
  returned: when draining takes too long
  type: dict
log:
  description: The last lines of the server's log.
  returned: when it does not answer
  type: str
"""

from ..module_utils import module
from ..module_utils.job_server import server

ARGUMENTS = {**server.ARGUMENTS, **module.HOST_ARGUMENTS}


def main():
    module.run(ARGUMENTS, server.converge)


if __name__ == "__main__":
    main()
