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
author: Gearvisor contributors
description:
  - Runs Debian's stunnel with a configuration of its own, under systemd or, without it, under Supervisor.
    A job server's host lets those in who show a certificate of the authority with a name that is
    listed. Any other host gets a port on its loopback for each job server.
  - gearmand itself is no way to do this. Debian builds it without TLS, and where it has TLS it lets in
    clients without a certificate.
  - Certificates are tried in a handshake, addresses and ports looked at, before anything is changed.
    stunnel then reloads, which open connections do not notice. When it does not serve as it shall,
    the old files come back.
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
        description: Names in the certificates of those who may come in. This host's own always may.
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
  service_manager:
    description: Who keeps it running. V(auto) is systemd where it is PID 1, and Supervisor elsewhere.
    type: str
    choices: [auto, systemd, supervisor]
    default: auto
attributes:
  check_mode:
    support: full
    description: Tells what would be done. Certificates may still be empty then.
  diff_mode: {support: full, description: Shows the files, without the key.}
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
  description: When this host's certificate ends, if it was looked at.
  returned: success
  type: str
  sample: "2027-11-23T15:40:40Z"
service_manager:
  description: Who keeps it running.
  returned: success
  type: str
  sample: systemd
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.failure import GearvisorError
from ..module_utils.tunnel import certificates, stunnel, tunnel

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
    "service_manager": {
        "type": "str",
        "choices": ["auto", "systemd", "supervisor"],
        "default": "auto",
    },
}


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "present", ("ca", "certificate", "key"))],
    )
    try:
        result = tunnel.converge(_request(module.params), module.run_command, module.check_mode)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


def _request(params):
    settings = identity = None
    if params["state"] == "present":
        settings = stunnel.typed_settings(params["serve"], params["servers"])
        identity = certificates.Identity(params["ca"], params["certificate"], params["key"])
    return tunnel.Request(settings, identity, params["state"], params["service_manager"])


if __name__ == "__main__":
    main()
