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
author: Gearvisor contributors
description:
  - Installs Debian's package C(supervisor), enables and starts it, under systemd or without, and
    returns once it answers on its socket. A running supervisord is left alone.
options:
  state:
    description: Whether supervisord is installed and running, or removed with everything it runs.
    type: str
    choices: [present, absent]
    default: present
  version:
    description: Version of the Debian package to pin; may end in V(*).
    type: str
attributes:
  check_mode: {support: full, description: Tells what would be done.}
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
version:
  description: The version that answers, if one does.
  returned: success
  type: str
  sample: 4.2.5
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.failure import GearvisorError
from ..module_utils.supervisor import daemon

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "version": {"type": "str"},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    host = daemon.Host(module.run_command, daemon.booted_with_systemd())
    try:
        result = daemon.converge(daemon.Request(**module.params), host, module.check_mode)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
