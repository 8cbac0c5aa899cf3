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
author: Gearvisor contributors (@gearvisor)
description:
  - The binding is part of the module, which builds its wheel on the target; neither a package
    index nor a build tool is needed for it.
  - The virtual environment is built separately, tested, and activated by replacing one link.
    If anything fails before that, the old one stays in use.
  - Nothing of the environment is ever run as root. Its directories and requirements are checked, pip and
    everything that it builds run as an unprivileged user that owns nothing else, as does the trial, and what
    is in use belongs to root.
  - The environment used before is kept. With the options that made it, it is linked again at once,
    without pip. Older ones are kept for as long as processes run from them.
options:
  state:
    description: Whether the virtual environment is there.
    type: str
    choices: [present, absent]
    default: present
  venv:
    description:
      - Path of the link to the virtual environment in use. The environments themselves are beside it,
        named after their content.
      - Refused where others than root and O(trusted_users) could put something else there, and where
        other users cannot reach it.
    type: path
    default: /opt/gearvisor/venv
  command:
    description:
      - Where to link the command gearvisor of the environment, such as V(/usr/local/bin/gearvisor). Unset,
        no link is made. A file there that is not such a link stays, with a warning.
    type: path
    version_added: 0.2.0
  binding:
    description:
      - V(gearvisor) is this project's client and worker.
      - V(pygearman) is the pinned release of that package, by its hash, from O(wheelhouse) or the
        host's package index.
    type: str
    choices: [gearvisor, pygearman]
    default: gearvisor
  requirements:
    description:
      - What the application needs, as lines of a pip requirements file. C(-r /path) includes a file
        on the target, whose content counts too, as does that of a wheel that is named by its path.
      - Such files may belong to anyone. They are read with their owner's rights, and pip gets a copy; who
        can write them decides what is installed, and so what the workers run.
      - Directories (a project's source, C(--find-links)) are read by pip itself, and refused where others
        than root and O(trusted_users) could change them.
      - Where one requirement has a C(--hash), pip asks one of every other and of all they need. The
        line C(--require-hashes) asks so even where none has one. The binding needs none in either case.
    type: list
    elements: str
    default: []
  python:
    description:
      - The interpreter, Python 3.9 or later with its modules C(venv) and C(ensurepip).
      - What Debian splits off its own interpreters (C(/usr/bin/python3), C(/usr/bin/python3.11)) is
        installed, as the package C(python3-venv) or C(python3.11-venv).
    type: path
    default: /usr/bin/python3
  wheelhouse:
    description:
      - A directory on the target that holds everything O(requirements) needs, for hosts without a
        package index; no index is asked then.
      - C(pip download) fills one, on a machine with the same release and architecture.
      - Refused where others than root and O(trusted_users) could change it.
    type: path
  index_url:
    description:
      - The package index to use instead of the host's. It may hold a name and a password, which do
        not get into arguments of processes, files or output.
      - The rest of the host's pip configuration and root's applies as usual, except C(~/.netrc). Where
        packages come from does not cause a rebuild.
    type: str
  extra_index_urls:
    description:
      - Package indexes to use as well. pip takes the newest version that any of them has, so
        a package of yours may come from there if another person registers its name. Give
        hashes, or use one index that has both.
    type: list
    elements: str
    default: []
  trusted_users:
    description:
      - Users that root trusts with directories named in O(venv), O(wheelhouse) and O(requirements), such as
        the one that deploys the application. They can give the workers other code, but not root.
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
  check_mode: {support: full, description: Reports whether an environment would be built.}
  diff_mode: {support: full, description: Shows which environment the link leads to.}
  idempotent: {support: full, description: A second call changes nothing.}
"""

EXAMPLES = r"""
- name: The binding alone
  gearman_python_binding:

- name: With what the application needs, whose directory is its own user's
  gearman_python_binding:
    venv: /opt/mail/venv
    requirements:
      - -r /srv/mail/requirements.txt

- name: On a host without a package index
  gearman_python_binding:
    venv: /opt/mail/venv
    requirements:
      - -r /srv/mail/requirements.txt
    wheelhouse: /opt/mail/wheelhouse

- name: From an index that asks for a password, with another Python
  gearman_python_binding:
    venv: /opt/mail/venv
    requirements:
      - mail==2.4.0
    python: /usr/local/bin/python3.13
    index_url: "https://deploy:{{ pypi_password | urlencode }}@pypi.example.org/simple"
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  returned: success
  type: list
  elements: str
venv:
  description: Path of the virtual environment in use.
  returned: success
  type: str
environment:
  description: Where that link leads to, or in check mode would.
  returned: when O(state=present)
  type: str
  sample: /opt/gearvisor/venv-0a1b2c3d4e5f
binding:
  description: The binding in it.
  returned: success
  type: str
"""

import importlib.util
import pkgutil

from ..module_utils import gearvisor, module
from ..module_utils.python_binding import binding

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "venv": {"type": "path", "default": "/opt/gearvisor/venv"},
    "command": {"type": "path"},
    "binding": {"type": "str", "choices": ["gearvisor", "pygearman"], "default": "gearvisor"},
    "requirements": {"type": "list", "elements": "str", "default": []},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "wheelhouse": {"type": "path"},
    "index_url": {"type": "str", "no_log": True},
    "extra_index_urls": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "trusted_users": {"type": "list", "elements": "str", "default": []},
    **module.HOST_ARGUMENTS,
}


def _travelling():
    """Never called. Ansible sends along what a module imports, at whatever place: all of the package.

    Importing it on the host would take a tenth of a second; its text is all that is needed.
    """
    from ..module_utils.gearvisor import (  # noqa: F401
        _build,
        admin,
        admin_replies,
        aio,
        aio_lane,
        aio_link,
        aio_serving,
        aio_stream,
        certificate,
        cli,
        client,
        command_cancel,
        command_drain,
        command_exporter,
        command_failed,
        command_line,
        command_pause,
        command_resume,
        command_status,
        command_submit,
        command_top,
        command_worker,
        connection,
        counters,
        deadlines,
        diagnosis,
        errors,
        escape,
        exporter,
        failed,
        failed_jobs,
        failed_store,
        housekeeping,
        job_runner,
        job_servers,
        jobs,
        limits,
        logs,
        metrics,
        observe,
        page,
        pause,
        pause_watch,
        percent,
        protocol,
        recorder,
        reference,
        regular_file,
        retries,
        screen,
        serving,
        session,
        status_file,
        status_writer,
        summary,
        unique_ids,
        worker,
    )


def wheel():
    """Return (file name, bytes) of the binding's wheel, made from the sources that came along."""
    from ..module_utils.gearvisor import _build

    modules = {"__init__": gearvisor.__name__}
    for found in pkgutil.iter_modules(gearvisor.__path__):
        modules[found.name] = f"{gearvisor.__name__}.{found.name}"
    return _build.build({f"{name}.py": _source(module) for name, module in modules.items()})


def _source(name):
    return importlib.util.find_spec(name).loader.get_source(name).encode()


def converge(params, host):
    return binding.converge(binding.request_of(params), host, wheel())


def main():
    module.run(
        ARGUMENTS, converge, secrets=lambda params: binding.secrets(binding.request_of(params))
    )


if __name__ == "__main__":
    main()
