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
author: Gearvisor contributors (@gearvisor)
description:
  - Maintains a separate nftables table, C(inet gearvisor), that refuses connections to O(ports) from
    all but the hosts and networks that are listed, and to O(monitoring_ports) from all but
    O(monitoring_networks). No other port is affected, ports of SSH servers are refused, and no other table
    is touched.
  - Every name is looked up and the table is checked by nft before anything is changed. The table is
    replaced in one step, and connections of hosts that are no longer listed end.
  - Under systemd, gearmand and its tunnel require the unit that loads the table. When it cannot be loaded they
    do not start; when Debian's nftables unit flushes it, it is loaded again at once. Without systemd an init
    script loads it, and if it cannot, a table that lets only the loopback in.
  - A table that was changed by hand, or flushed, is restored by the next run.
requirements:
  - Debian 12 or 13 on the target; in a container the capability C(NET_ADMIN).
options:
  state:
    description: Whether the table is there. V(absent) removes it and its files; the package stays.
    type: str
    choices: [present, absent]
    default: present
  ports:
    description: The TCP ports to guard. Required with V(present), unless there are O(monitoring_ports).
    type: list
    elements: int
    default: []
  hosts:
    description:
      - The hosts that may connect, as lists of IP addresses, networks or names by host. Names are looked up on the
        target, when this runs.
    type: dict
    default: {}
  networks:
    description: More addresses or networks that may connect.
    type: list
    elements: str
    default: []
  monitoring_ports:
    description: TCP ports of the exporter, which only O(monitoring_networks) and this host itself reach.
    type: list
    elements: int
    default: []
  monitoring_networks:
    description:
      - The addresses, networks or names of hosts that may connect to O(monitoring_ports), such as that of Prometheus.
        Names are looked up on the target, when this runs.
    type: list
    elements: str
    default: []
  local_users:
    description:
      - The only users of this host, besides root, that may connect to O(ports) over the loopback, by name or
        number. Empty means all. With a tunnel, C(stunnel4) has to be among them.
    type: list
    elements: str
    default: []
  ssh_ports:
    description:
      - Ports of SSH, which O(ports) must not hold, besides those that are found - 22, what C(sshd -T) reports, what
        SSH servers and C(ssh.socket) listen on, and the port of the connection of this run.
    type: list
    elements: int
    default: []
  extra_lines:
    description: More rules, one per line, that come before the refusal of connections to O(ports).
    type: list
    elements: str
    default: []
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

- name: Only Prometheus reaches the exporter
  gearman_firewall:
    monitoring_ports: [9418]
    monitoring_networks: [192.0.2.130]
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

from ..module_utils import module
from ..module_utils.firewall import firewall

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "ports": {"type": "list", "elements": "int", "default": []},
    "hosts": {"type": "dict", "default": {}},
    "networks": {"type": "list", "elements": "str", "default": []},
    "monitoring_ports": {"type": "list", "elements": "int", "default": []},
    "monitoring_networks": {"type": "list", "elements": "str", "default": []},
    "local_users": {"type": "list", "elements": "str", "default": []},
    "ssh_ports": {"type": "list", "elements": "int", "default": []},
    "extra_lines": {"type": "list", "elements": "str", "default": []},
    **module.HOST_ARGUMENTS,
}


def converge(params, host):
    return firewall.converge(firewall.request_of(params), host)


def main():
    module.run(ARGUMENTS, converge)


if __name__ == "__main__":
    main()
