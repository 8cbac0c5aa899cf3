#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: supervisor_daemon
short_description: Install supervisord, and have it running and answering
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Installs Debian's package C(supervisor), sets it up for fleets, enables and starts it, under
    systemd or without, and returns once it answers on its socket.
  - A supervisord that runs is not restarted for a setting, since that would restart every program.
  - Under systemd, a drop-in makes a stop drain all processes at once and leave none behind, and
    C(systemctl reload supervisor) replace only programs whose definition changed.
  - When supervisord was killed, its workers finish their jobs, and systemd starts it again after a second.
    Where supervisord runs with O(retry_fatal), the kernel's OOM killer ends other processes first; the workers do
    not inherit that.
options:
  state:
    description: Whether supervisord is installed and running, or removed with everything it runs.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: Version of the Debian package to pin; may end in V(*).
    type: str
  minfds:
    description:
      - Files that supervisord may have open, about five per process, bounded by the host's hard limit.
      - Applied to a running supervisord without a restart.
    type: int
    default: 8192
  stop_timeout:
    description: >-
      Seconds systemd waits for all processes to finish before it kills them. Give more than the
      longest C(stopwaitsecs).
    type: int
    default: 330
  retry_fatal:
    description:
      - Seconds after which a process that Supervisor has given up (C(FATAL)) is started again, by an
        event listener. Supervisor itself never does. V(0) means never.
    type: int
    default: 60
  web:
    description:
      - The web interface, on 127.0.0.1 and with a password. Unset, it is closed.
      - On a supervisord that runs it takes effect with the next restart, which is left to you.
    type: dict
    suboptions:
      port:
        description: Port on 127.0.0.1.
        type: int
        default: 9001
      username:
        description: Name to log in with.
        type: str
        required: true
      password:
        description: Password to log in with; the host keeps its SHA-1 only.
        type: str
        required: true
  lock_timeout:
    description: How many seconds to wait while another run of a module changes this host.
    type: int
    default: 300
  untested_release:
    description: Also run on a Debian release that Gearvisor is not tested on.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Reports what would be done.}
  diff_mode: {support: full, description: Lists the actions.}
  idempotent: {support: full, description: A second call changes nothing.}
"""

EXAMPLES = r"""
- name: Supervisor runs
  supervisor_daemon:
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [install supervisor, start supervisor]
files:
  description: Files written or removed.
  returned: success
  type: list
  elements: str
restart_pending:
  description: Whether a setting waits for a restart of supervisord.
  returned: success
  type: bool
version:
  description: The version that answers, if one does.
  returned: success
  type: str
  sample: 4.2.5
"""

from ..module_utils import module
from ..module_utils.outcome import Outcome
from ..module_utils.supervisor import daemon

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "version": {"type": "str"},
    "minfds": {"type": "int", "default": 8192},
    "stop_timeout": {"type": "int", "default": 330},
    "retry_fatal": {"type": "int", "default": 60},
    "web": {
        "type": "dict",
        "options": {
            "port": {"type": "int", "default": 9001},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
        },
    },
    **module.HOST_ARGUMENTS,
}


def converge(params, host):
    """Return the Outcome of the daemon's convergence."""
    web = params["web"]
    given = {name: params[name] for name in daemon.Request._fields}
    request = daemon.Request(**{**given, "web": daemon.Web(**web) if web else None})
    result = daemon.converge(request, host)
    common = {
        name: result.pop(name) for name in ("changed", "actions", "files", "diff", "warnings")
    }
    return Outcome(**common, details=result)


def main():
    module.run(ARGUMENTS, converge)


if __name__ == "__main__":
    main()
