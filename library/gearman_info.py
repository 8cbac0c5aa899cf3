#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_info
short_description: Show what job servers have queued and which workers serve it
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Asks each job server on its admin port for its version, its functions with their jobs, and its workers.
  - A job server that does not answer is reported as not reachable and does not fail the task.
options:
  servers:
    description: Job servers as V(host:port).
    type: list
    elements: str
    default: ["127.0.0.1:4730"]
  timeout:
    description: Seconds for connecting and for each command, more than 0 and at most 3600.
    type: float
    default: 5
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Reads only.}
  idempotent: {support: full, description: Reads only.}
"""

EXAMPLES = r"""
- name: Look at both job servers
  gearman_info:
    servers: ["10.0.0.5:4730", "10.0.0.6:4730"]
  register: fleet

- name: Check that a worker serves the function
  ansible.builtin.assert:
    that: fleet['servers'] | map(attribute='functions.reverse.workers', default=0) | sum > 0
"""

RETURN = r"""
servers:
  description: One entry per job server, in the order of O(servers).
  returned: success
  type: list
  elements: dict
  contains:
    server: {description: The V(host:port)., type: str, returned: always}
    reachable: {description: Whether it answered., type: bool, returned: always}
    error: {description: Why it is not reachable., type: str, returned: when not reachable}
    version: {description: Its version., type: str, returned: when reachable, sample: 1.1.20+ds}
    functions:
      description: >-
        By function name, the jobs waiting (C(queued)), the jobs being done (C(running)) and the
        connections that can do it (C(workers)).
      type: dict
      returned: when reachable
      sample: {"reverse": {"queued": 0, "running": 1, "workers": 2}}
    workers:
      description: Its connections with at least one function.
      type: list
      elements: dict
      returned: when reachable
      sample: [{"address": "127.0.0.1", "client_id": "web1-reverse-00", "functions": ["reverse"]}]
"""

from ..module_utils import module
from ..module_utils.job_server import info

ARGUMENTS = {
    "servers": {"type": "list", "elements": "str", "default": ["127.0.0.1:4730"]},
    "timeout": {"type": "float", "default": 5},
}


def main():
    module.run(ARGUMENTS, info.gather, root=False, changes_host=False)


if __name__ == "__main__":
    main()
