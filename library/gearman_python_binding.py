#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_python_binding
short_description: Build and install the Python binding into a virtual environment
version_added: 0.1.0
author: Gearvisor contributors
description:
  - The binding travels inside the module, which builds its wheel on the target; neither a package
    index nor a build tool is needed for it.
  - The virtual environment is built aside, tried, and swapped in by replacing one link, so running
    workers never see a half-made one. The environment used before is kept.
options:
  state:
    description: Whether the virtual environment is there.
    type: str
    choices: [present, absent]
    default: present
  venv:
    description: >-
      Path of the link to the virtual environment in use. The environments themselves are beside it,
      named after their content.
    type: path
    default: /opt/gearvisor/venv
  binding:
    description:
      - V(gearvisor) is this project's client and worker.
      - V(pygearman) is the pinned release of that package from the host's Python package index.
    type: str
    choices: [gearvisor, pygearman]
    default: gearvisor
  requirements:
    description:
      - What the application needs, as lines of a pip requirements file. C(-r /path) includes a file
        on the target, whose content counts too.
    type: list
    elements: str
    default: []
  python:
    description: The interpreter, Python 3.9 or later with its C(venv) module.
    type: path
    default: /usr/bin/python3
attributes:
  check_mode: {support: full, description: Tells whether an environment would be built.}
  diff_mode: {support: full, description: Shows which environment the link leads to.}
  idempotent: {support: full, description: A second call changes nothing.}
"""

EXAMPLES = r"""
- name: The binding alone
  gearman_python_binding:

- name: With what the application needs
  gearman_python_binding:
    venv: /srv/mail/venv
    requirements:
      - -r /srv/mail/requirements.txt
"""

RETURN = r"""
venv:
  description: Path of the virtual environment in use.
  returned: success
  type: str
binding:
  description: The binding in it.
  returned: success
  type: str
"""

import inspect

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import gearman
from ..module_utils.failure import GearvisorError

# All of the package is named here, because what is imported travels with the module.
from ..module_utils.gearman import (
    __main__ as gearman_main,
)
from ..module_utils.gearman import (
    _build,
    admin,
    cli,
    client,
    connection,
    errors,
    protocol,
    reference,
    worker,
)
from ..module_utils.python import binding

PACKAGE = {
    "__init__.py": gearman,
    "__main__.py": gearman_main,
    "_build.py": _build,
    "admin.py": admin,
    "cli.py": cli,
    "client.py": client,
    "connection.py": connection,
    "errors.py": errors,
    "protocol.py": protocol,
    "reference.py": reference,
    "worker.py": worker,
}

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "venv": {"type": "path", "default": "/opt/gearvisor/venv"},
    "binding": {"type": "str", "choices": ["gearvisor", "pygearman"], "default": "gearvisor"},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "python": {"type": "path", "default": "/usr/bin/python3"},
}


def wheel():
    """Return (file name, bytes) of the binding's wheel, made from the sources that came along."""
    return _build.build(
        {name: inspect.getsource(module).encode() for name, module in PACKAGE.items()}
    )


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    request = binding.Request(
        **{**module.params, "requirements": tuple(module.params["requirements"])}
    )
    try:
        result = binding.converge(
            request, binding.Host(module.run_command, wheel()), module.check_mode
        )
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
