#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_function
short_description: Limit, empty or drop a function of job servers
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Sets how many jobs a function may have, cancels those that wait, or makes the job server forget the
    function.
  - gearmand forgets a limit when it stops. Run on the host of a job server that
    M(gearvisor.gearvisor.gearman_job_server) set up, the limit is kept
    there and set again after each start, also after a crash or a reboot.
options:
  name:
    description: The function.
    type: str
    required: true
  state:
    description:
      - V(present) makes it known. V(absent) makes the job servers forget it, which is refused while
        workers serve it, or jobs wait and O(cancel) is not set.
    type: str
    choices: [present, absent]
    default: present
  max_queue:
    description:
      - How many jobs it may have, waiting and running; others get C(QUEUE_ERROR). One number, or three
        for high, normal and low priority, each compared with the number of all its jobs. V(0) means
        unlimited. Unset, the limit stays as it is.
    type: list
    elements: int
  cancel:
    description:
      - Cancel the jobs that wait, by failing them. Their clients get a failure. Running jobs continue, and
        delayed ones stay until they are due.
    type: bool
    default: false
  servers:
    description:
      - Job servers as V(host:port). Unset, it is the one that
        M(gearvisor.gearvisor.gearman_job_server) runs on this host.
      - Others than that forget O(max_queue) when they stop.
    type: list
    elements: str
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
    description: Inspects, refuses what it would refuse, and changes nothing.
  diff_mode:
    support: full
    description: Shows the kept limits and what is done to the job servers.
  idempotent:
    support: partial
    description: >-
      gearmand does not report its limits. So O(max_queue) counts as changed when it differs from what is
      kept on the job server's host; it is sent each time, and on other servers it never counts as changed.
"""

EXAMPLES = r"""
- name: At most 10,000 thumbnails wait
  gearman_function:
    name: thumbnails
    max_queue: 10000

- name: Under load only urgent ones are taken
  gearman_function:
    name: thumbnails
    max_queue: [10000, 2000, 500]

- name: Forget a function that no code serves any more, and its jobs
  gearman_function:
    name: old_report
    state: absent
    cancel: true
"""

RETURN = r"""
servers:
  description: The job servers that were changed.
  returned: success
  type: list
  elements: str
kept:
  description: Whether the limit is set again when this host's job server starts.
  returned: success
  type: bool
actions:
  description: What was done besides setting the limit, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["create thumbnails on 127.0.0.1:4730"]
cancelled:
  description: How many jobs were cancelled; V(0) in check mode.
  returned: success
  type: int
jobs:
  description: How many jobs wait.
  returned: when O(state=absent) is refused because of them
  type: int
"""

from ..module_utils import module
from ..module_utils.job_server import function

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "max_queue": {"type": "list", "elements": "int"},
    "cancel": {"type": "bool", "default": False},
    "servers": {"type": "list", "elements": "str"},
    **module.HOST_ARGUMENTS,
}


def main():
    module.run(ARGUMENTS, function.converge, root=False)


if __name__ == "__main__":
    main()
