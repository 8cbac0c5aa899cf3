#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_tunnel
short_description: Carry Gearman between hosts with mutual TLS
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Runs Debian's stunnel with a separate configuration, under systemd or, without it, under Supervisor.
    A job server's host accepts clients with a certificate of the authority with a listed name. Any
    other host gets a port on its loopback for each job server.
  - gearmand itself cannot do this. Debian builds it without TLS, and where it has TLS it lets in
    clients without a certificate.
  - Certificates are tested in a handshake, and addresses and ports are checked, before anything is changed.
    stunnel then reloads, which open connections do not notice. When it does not work, the old files
    are restored.
requirements:
  - Debian 12 or 13 on the target; without systemd also a running Supervisor.
options:
  state:
    description:
      - V(absent) stops it and removes its files, the key included. The package stays.
    type: str
    choices: [present, absent]
    default: present
  serve:
    description: The job server of this host, if it has one.
    type: dict
    suboptions:
      listen:
        description: The address, or its name, at which other hosts reach this one.
        type: str
        required: true
      port:
        description: The port for TLS.
        type: int
        default: 4731
      job_server:
        description: Where gearmand listens, as V(host:port).
        type: str
        default: 127.0.0.1:4730
      name:
        description: A name in this host's certificate, which clients look for.
        type: str
        required: true
      clients:
        description: Names in the certificates of the clients that may connect. This host's own always may.
        type: list
        elements: str
        default: []
  servers:
    description: The job servers on other hosts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A name in the server's certificate.
        type: str
        required: true
      address:
        description: Its address, or a name, which is looked up with each connection.
        type: str
        required: true
      port:
        description: Its port for TLS.
        type: int
        default: 4731
      local_port:
        description: The port on 127.0.0.1 of this host that leads there.
        type: int
        required: true
  ca:
    description: The certificate of the authority, or of several, as PEM text. Required with V(present).
    type: str
  certificate:
    description: This host's certificate, as PEM text. Required with V(present).
    type: str
  key:
    description: Its private key, as PEM text. Required with V(present).
    type: str
  peers:
    description:
      - The only certificates that are accepted, one PEM text each, besides that they must be of the authority
        and have the right name. A certificate that is no longer among them is refused from now on.
      - Empty means that any certificate of the authority with a right name is accepted.
    type: list
    elements: str
    default: []
  end_retired:
    description:
      - Also end connections that certificates may have opened which O(peers) no longer lists, by a restart of
        stunnel on a job server's host. Workers and clients connect again; jobs in progress run again.
      - Without it stunnel reloads, which leaves open connections alone.
    type: bool
    default: false
  extra_lines:
    description:
      - More global settings for C(stunnel.conf), such as V(curves = X25519). stunnel tries them before they
        are used; those that the tunnel depends on are refused.
    type: list
    elements: str
    default: []
  service_manager:
    description: The service manager. V(auto) is systemd where it is PID 1, and Supervisor elsewhere.
    type: str
    choices: [auto, systemd, supervisor]
    default: auto
  lock_timeout:
    description: How many seconds to wait while another run of a module changes this host.
    type: int
    default: 300
  untested_release:
    description: Also run on a Debian release that Gearvisor is not tested on.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Reports what would be done. Certificates may still be empty then.
  diff_mode: {support: full, description: "Shows the files, without the key."}
  idempotent: {support: full, description: A second call changes nothing.}
"""

EXAMPLES = r"""
- name: Let the workers in
  gearman_tunnel:
    serve:
      listen: 192.0.2.11
      name: job1
      clients: [worker1, worker2]
    ca: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'job1.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'job1.key') }}"

- name: Reach two job servers as 127.0.0.1:4740 and 127.0.0.1:4741
  gearman_tunnel:
    servers:
      - {name: job1, address: 192.0.2.11, local_port: 4740}
      - {name: job2, address: 192.0.2.12, local_port: 4741}
    ca: "{{ lookup('ansible.builtin.file', 'ca.pem') }}"
    certificate: "{{ lookup('ansible.builtin.file', 'worker1.pem') }}"
    key: "{{ lookup('ansible.builtin.file', 'worker1.key') }}"
"""

RETURN = r"""
needs:
  description: V(supervisord) when the tunnel is to run under Supervisor, and that is missing or does not answer.
  returned: failure for that reason; nothing was changed
  type: str
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [reload stunnel]
files:
  description: Files written or removed.
  returned: success
  type: list
  elements: str
expires:
  description: When this host's certificate ends, if it was checked.
  returned: success
  type: str
  sample: "2027-11-23T15:40:40Z"
service_manager:
  description: The service manager in use.
  returned: success
  type: str
  sample: systemd
"""

from ..module_utils import module
from ..module_utils.tunnel import tunnel

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "serve": {
        "type": "dict",
        "options": {
            "listen": {"type": "str", "required": True},
            "port": {"type": "int", "default": 4731},
            "job_server": {"type": "str", "default": "127.0.0.1:4730"},
            "name": {"type": "str", "required": True},
            "clients": {"type": "list", "elements": "str", "default": []},
        },
    },
    "servers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 4731},
            "local_port": {"type": "int", "required": True},
        },
    },
    "ca": {"type": "str"},
    "certificate": {"type": "str"},
    "key": {"type": "str", "no_log": True},
    "peers": {"type": "list", "elements": "str", "default": []},
    "end_retired": {"type": "bool", "default": False},
    "extra_lines": {"type": "list", "elements": "str", "default": []},
    "service_manager": {
        "type": "str",
        "choices": ["auto", "systemd", "supervisor"],
        "default": "auto",
    },
    **module.HOST_ARGUMENTS,
}


def converge(params, host):
    return tunnel.converge(tunnel.request_of(params), host)


def main():
    required_if = [("state", "present", ("ca", "certificate", "key"))]
    module.run(ARGUMENTS, converge, required_if=required_if)


if __name__ == "__main__":
    main()
