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
    or, where there is none, with Supervisor, and waits until its admin port answers.
  - Every value, the port, the package version and gearmand's own reading of the configuration are
    checked before anything is changed. When the new server does not answer, the old files and the
    old server come back.
  - gearmand reads its configuration only when it starts, and a restart forgets the jobs in memory.
    So O(restart) decides, and by default a restart that would lose jobs is refused.
  - gearmand knows no authentication, and Debian's build ignores C(--ssl). Let it listen on the
    loopback or a private address, behind a firewall and a TLS tunnel.
requirements:
  - Debian 12 or 13 on the target; without systemd also a running Supervisor.
options:
  state:
    description:
      - V(absent) stops it and removes the service, our files and the package. Queue files and the
        package's own configuration stay.
    type: str
    choices: [present, absent]
    default: present
  version:
    description:
      - The package's version, or its beginning and V(*). Unset, any installed version will do.
    type: str
  listen:
    description:
      - The IP address or host name to listen on; V(0.0.0.0) is all of IPv4, V(::) all of IPv6. gearmand
        takes one, and listens on all addresses of a name.
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
        hands a job that kills its worker to all of them, for ever.
    type: int
    default: 3
  round_robin:
    description:
      - Take turns between the functions of a worker. Otherwise the function it registered last is
        served first, and others may starve.
    type: bool
    default: true
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
  verbosity:
    description:
      - What gearmand logs. The default is gearmand's own, since V(NOTICE) and beyond write a line for
        every job and V(INFO) one for every connection.
    type: str
    choices: [FATAL, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG]
    default: ERROR
  queue:
    description:
      - Where background jobs are kept. Foreground jobs are in memory always.
    type: dict
    default: {}
    suboptions:
      type:
        description:
          - V(builtin) is memory. V(libsqlite3) (or V(sqlite)) is a file, which survives restarts and
            crashes; each of its jobs needs a unique id of its own, as jobs of a function without one
            replace each other.
        type: str
        choices: [builtin, libsqlite3, sqlite]
        default: builtin
      path:
        description:
          - The file of V(libsqlite3). A missing directory is made for the user C(gearman).
          - Unset, it is V(/var/lib/gearvisor/gearmand/queue.sqlite3), which a purge of the package
            leaves alone.
        type: path
      table:
        description: The table of V(libsqlite3). Unset, it is V(gearman_queue).
        type: str
  restart:
    description:
      - How to go on when gearmand runs and has to be restarted, or stopped for O(state=absent).
      - V(auto) restarts it when no job would be lost, and otherwise fails before anything is changed.
        Background jobs in a file that the new configuration uses too are not lost.
      - V(drain) lets it finish all jobs first, O(drain_timeout) at most. It takes no new connections
        meanwhile, so connected workers must be able to finish what is queued.
      - V(force) restarts at once, and returns what was lost.
      - V(never) writes the files only, and returns C(restart_pending).
    type: str
    choices: [auto, drain, force, never]
    default: auto
  drain_timeout:
    description:
      - How many seconds it may drain. Then the task fails, but nothing is killed; gearmand leaves and
        comes up with the new configuration when its jobs are done.
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

- name: Change the configuration, but finish all jobs first
  gearman_job_server:
    threads: 8
    restart: drain
    drain_timeout: 600
"""

RETURN = r"""
server:
  description: Where a client on this host reaches it.
  returned: state is present
  type: str
  sample: 127.0.0.1:4730
version:
  description: The version that the server says; none in check mode or while a restart is pending if nothing answers.
  returned: state is present
  type: str
  sample: 1.1.21+ds
package_version:
  description: The installed package's version.
  returned: state is present
  type: str
  sample: 1.1.21+ds-1
service_manager:
  description: V(systemd) or V(supervisor).
  returned: success
  type: str
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
  returned: state is present
  type: bool
restart_pending:
  description: Whether the server still runs with an older configuration or version.
  returned: state is present
  type: bool
lost:
  description: Jobs by function that were lost, or on refusal would be.
  returned: success, or when a restart is refused
  type: dict
  sample: {"resize": {"queued": 3, "running": 1}}
left:
  description: Jobs by function that were left when O(drain_timeout) had passed.
  returned: when draining takes too long
  type: dict
log:
  description: The last lines of the server's log.
  returned: when it does not answer
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.failure import GearvisorError, InvalidOption
from ..module_utils.gearmand import config, server

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "version": {"type": "str"},
    "listen": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 4730},
    "threads": {"type": "int", "default": 4},
    "backlog": {"type": "int", "default": 32},
    "job_retries": {"type": "int", "default": 3},
    "round_robin": {"type": "bool", "default": True},
    "worker_wakeup": {"type": "int", "default": 0},
    "keepalive": {"type": "bool", "default": True},
    "file_descriptors": {"type": "int"},
    "verbosity": {"type": "str", "choices": list(config.VERBOSITIES), "default": "ERROR"},
    "queue": {
        "type": "dict",
        "default": {},
        "options": {
            "type": {"type": "str", "choices": list(config.QUEUE_TYPES), "default": "builtin"},
            "path": {"type": "path"},
            "table": {"type": "str"},
        },
    },
    "restart": {"type": "str", "choices": ["auto", "drain", "force", "never"], "default": "auto"},
    "drain_timeout": {"type": "int", "default": 300},
    "service_manager": {
        "type": "str",
        "choices": ["auto", "systemd", "supervisor"],
        "default": "auto",
    },
    "ready_timeout": {"type": "int", "default": 30},
}


def request_from(params):
    """Return the server.Request; raises InvalidOption for values that cannot work."""
    for option in ("drain_timeout", "ready_timeout"):
        if params[option] < 1:
            raise InvalidOption(option, params[option], "is below 1", "Use 1 second or more")
    config.check_version(params["version"])
    others = {name: params[name] for name in server.Request._fields if name != "settings"}
    return server.Request(settings=config.typed_settings(params), **others)


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = server.converge(request_from(module.params), module.run_command, module.check_mode)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
