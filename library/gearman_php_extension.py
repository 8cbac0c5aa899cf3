#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_php_extension
short_description: Install, enable and prove the PHP extension gearman
version_added: 0.1.0
author: Gearvisor contributors
description:
  - Installs the extension for every PHP version found, or for those named, with the command line PHP
    if there is none yet; loads it in a process of its own; and only then enables it for each SAPI.
options:
  state:
    description: Whether the extension is installed and enabled, or removed.
    type: str
    choices: [present, absent]
    default: present
  method:
    description: Where the extension comes from. V(package) is Debian's C(phpX.Y-gearman).
    type: str
    choices: [package]
    default: package
  version:
    description: Version of the Debian package to pin; may end in V(*).
    type: str
  php:
    description:
      - PHP versions such as V("8.2"), in quotes.
      - Empty means all that are installed, or Debian's default where there is none.
    type: list
    elements: str
    default: []
  sapis:
    description:
      - For which SAPIs the extension is enabled. Their packages are installed when missing, and a
        running PHP-FPM or Apache is reloaded when the extension becomes enabled for it.
      - SAPIs that are not named are left as they are.
    type: list
    elements: str
    choices: [cli, fpm, apache2]
    default: [cli]
  worker_directory:
    description: Where O(worker_files) are put.
    type: path
  worker_files:
    description: >-
      PHP files by name with their text, such as this project's reference worker. They come in this
      same call because a task for each would take longer than all the rest.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: Tells what would be installed and enabled.}
  diff_mode: {support: full, description: Lists the actions.}
  idempotent: {support: full, description: A second call changes nothing.}
"""

EXAMPLES = r"""
- name: Command line workers
  gearman_php_extension:

- name: A web site that submits jobs, too
  gearman_php_extension:
    php: ["8.2"]
    sapis: [cli, fpm]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [install php8.2-cli php8.2-gearman, enable gearman for PHP 8.2 cli]
files:
  description: Files of O(worker_files) that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
versions:
  description: The extension's version as each PHP version reports it after loading it.
  returned: success
  type: dict
  sample: {"8.2": "2.1.0"}
sapis:
  description: The SAPIs for which it is enabled.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.failure import GearvisorError
from ..module_utils.php import extension

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "method": {"type": "str", "choices": ["package"], "default": "package"},
    "version": {"type": "str"},
    "php": {"type": "list", "elements": "str", "default": []},
    "sapis": {
        "type": "list",
        "elements": "str",
        "choices": list(extension.SAPIS),
        "default": ["cli"],
    },
    "worker_directory": {"type": "path"},
    "worker_files": {"type": "dict", "default": {}},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    request = extension.Request(
        state=module.params["state"],
        php=tuple(module.params["php"]),
        sapis=tuple(module.params["sapis"]),
        version=module.params["version"],
        worker_directory=module.params["worker_directory"],
        worker_files=module.params["worker_files"],
    )
    try:
        result = extension.converge(request, extension.Host(module.run_command), module.check_mode)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
