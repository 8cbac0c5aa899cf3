#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_firewall
short_description: Let only known hosts reach a job server
version_added: 0.1.0
author: Gearvisor contributors
description:
  - Keeps an nftables table of its own, C(inet gearvisor), that refuses connections to O(ports) from
    anybody but the hosts and networks that are listed. No other port is ever looked at, SSH's is
    refused as one, and nobody else's table is touched.
  - Every name is looked up and the whole is checked by nft before anything is changed. The table is
    replaced in one step, connections of hosts that are no longer listed end, and a systemd unit or an
    init script loads it at boot.
  - A table that was changed by hand, or flushed, is put back.
requirements:
  - Debian 12 or 13 on the target; in a container the capability C(NET_ADMIN).
options:
  state:
    description: Whether the table is there. V(absent) removes it and its files; the package stays.
    type: str
    choices: [present, absent]
    default: present
  ports:
    description: The TCP ports to guard. Required with V(present).
    type: list
    elements: int
    default: []
  hosts:
    description:
      - Who may connect, as lists of IP addresses, networks or names by host. Names are looked up on the
        target, when this runs.
    type: dict
    default: {}
  networks:
    description: More addresses or networks that may connect.
    type: list
    elements: str
    default: []
attributes:
  check_mode: {support: full, description: Tells what would be done.}
  diff_mode: {support: full, description: Shows the table and the unit.}
  idempotent: {support: full, description: A second call changes nothing.}
"""

EXAMPLES = r"""
- name: Only the workers and the monitoring network reach the job server
  gearman_firewall:
    ports: [4730, 4731]
    hosts:
      worker1: [192.0.2.21]
      worker2: [192.0.2.22, "2001:db8::22"]
    networks: [192.0.2.128/28]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [load the allow-list]
files:
  description: Files written or removed.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.failure import GearvisorError
from ..module_utils.firewall import firewall

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "ports": {"type": "list", "elements": "int", "default": []},
    "hosts": {"type": "dict", "default": {}},
    "networks": {"type": "list", "elements": "str", "default": []},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    request = firewall.Request(**module.params)
    try:
        result = firewall.converge(request, module.run_command, module.check_mode)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
