#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_authority
short_description: Keep a private certificate authority for the tunnel
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Makes a certificate authority in a directory, and a key and a certificate for each host. Meant for
    the control node, with C(delegate_to) and C(run_once); the authority's key stays there.
  - Valid files are kept. A certificate is made again when it nears its end, does not fit its
    key or its authority, or was issued for other names.
  - The authority's own certificate is renewed with its key, so certificates that it signed stay valid.
requirements:
  - The program C(openssl), 1.1.1 or later, where it runs.
options:
  directory:
    description:
      - The directory with C(ca.key), C(ca.pem), and C(hosts/NAME.key) and C(hosts/NAME.pem) for each
        host. Readable by its owner alone, and kept out of git.
    type: path
    required: true
  hosts:
    description:
      - The hosts that get a certificate, by name. C(names) are the host names and IP addresses it is issued for;
        C(server) states whether it is also for a job server.
    type: dict
    required: true
  days:
    description: How long a certificate is valid.
    type: int
    default: 365
  renew_days:
    description: How many days before its end a new one is made.
    type: int
    default: 60
  authority_days:
    description: How long the authority's own certificate is valid.
    type: int
    default: 3650
  rotate:
    description: Make new keys and certificates for all hosts, even if the old ones are valid.
    type: bool
    default: false
  stage:
    description:
      - Leave a certificate that is still good in use, and put the key and certificate that follow it beside it,
        as C(hosts/NAME.next.key) and C(hosts/NAME.next.pem), so that all hosts can accept them first.
      - A call without it then puts them in use.
    type: bool
    default: false
  purge:
    description:
      - Remove keys and certificates of hosts that are not in O(hosts), so that one that comes back gets new ones.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Reports what would be created.}
  diff_mode: {support: full, description: "Lists what is made, and why."}
  idempotent: {support: full, description: "A second call changes nothing, unless it rotates."}
"""

EXAMPLES = r"""
- name: Keep the certificates
  gearman_authority:
    directory: /home/admin/gearman-ca
    hosts:
      job1: {names: [job1, 192.0.2.11], server: true}
      worker1: {names: [worker1]}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
actions:
  description: What was made and why, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [issue a certificate for job1 (expires soon)]
certificates:
  description: The certificates of each host of O(hosts) as PEM texts, the one in use first, then the next one.
  returned: success
  type: dict
staged:
  description: The hosts that have a next certificate, which is not in use yet.
  returned: success
  type: list
  elements: str
"""

from ..module_utils import module
from ..module_utils.tunnel import authority

ARGUMENTS = {
    "directory": {"type": "path", "required": True},
    "hosts": {"type": "dict", "required": True},
    "days": {"type": "int", "default": 365},
    "renew_days": {"type": "int", "default": 60},
    "authority_days": {"type": "int", "default": 3650},
    "rotate": {"type": "bool", "default": False},
    "stage": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
}


def converge(params, host):
    request = authority.Request(**{**params, "hosts": authority.typed_hosts(params["hosts"])})
    return authority.converge(request, host.run, host.check_mode)


def main():
    module.run(ARGUMENTS, converge, root=False, changes_host=False)


if __name__ == "__main__":
    main()
