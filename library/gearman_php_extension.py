#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_php_extension
short_description: Install, test and enable the PHP extension gearman
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Installs the extension for every PHP version found, or for those named, with the command line PHP
    if none is installed; loads it in a separate process; and only then enables it for each SAPI.
  - Builds it from source instead where O(method=source), and then chooses the newest release that
    fits the PHP and the libgearman of the host. A build that fails changes nothing that is in use.
options:
  state:
    description:
      - Whether the extension is installed and enabled, or removed, however it was installed.
      - What was installed for a build, such as a compiler, stays.
    type: str
    choices: [present, absent]
    default: present
  method:
    description:
      - Where the extension comes from. V(package) is Debian's C(phpX.Y-gearman), V(source) a release
        of PECL gearman that is compiled on the host.
      - Each takes the place of the other.
    type: str
    choices: [package, source]
    default: package
  version:
    description:
      - Version of the Debian package to pin; may end in V(*).
      - With O(method=source), the release, such as V("2.1.4"). Without it, the newest that fits.
    type: str
  url:
    description:
      - Addresses of the tarball, tried in order, by HTTP or HTTPS. V({version}) stands for the release.
      - They are loaded by apt's own downloader, with the proxies and credentials that apt is set up with.
    type: list
    elements: str
    default: []
  path:
    description: A tarball on the host, instead of O(url) and O(debian).
    type: path
  debian:
    description: >-
      Take the tarball from the host's Debian mirror, where that has it; after O(url), if there is any.
    type: bool
    default: true
  checksum:
    description:
      - The tarball's SHA-256 sum. V(unverified) accepts any content.
      - Needed with O(url) and O(path) for releases whose sum this module does not know itself.
    type: str
  run_tests:
    description:
      - Run the extension's own tests after a build, against a separate job server in a separate
        network. One that fails ends the task, and the extension in use stays.
    type: bool
    default: false
  php:
    description:
      - PHP versions such as V("8.2"), in quotes.
      - Empty means all that are installed, or Debian's default where there is none.
    type: list
    elements: str
    default: []
  sapis:
    description:
      - For which SAPIs the extension is enabled; empty means all that are installed. Their packages
        are installed when missing. A running PHP-FPM or Apache is reloaded when what it loaded is no
        longer what is there.
      - SAPIs that are not named are left as they are, and keep the extension when O(method) changes.
    type: list
    elements: str
    choices: [cli, fpm, apache2, cgi]
    default: [cli]
  worker_directory:
    description: Where O(worker_files) are put.
    type: path
  worker_files:
    description: >-
      PHP files by their path below O(worker_directory), with their text, such as this project's
      reference worker. They come in this same call because a task for each would take longer than
      everything else.
    type: dict
    default: {}
  lock_timeout:
    description: How many seconds to wait while another run of a module changes this host.
    type: int
    default: 300
  untested_release:
    description: Also run on a Debian release that Gearvisor is not tested on.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Reports what would be installed and enabled.}
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

- name: The newest release that fits, from the Debian mirror, with its tests passed
  gearman_php_extension:
    method: source
    run_tests: true

- name: A release that this module does not know yet
  gearman_php_extension:
    method: source
    version: 2.1.5
    url:
      - https://mirror.example.org/gearman-{version}.tgz
      - https://pecl.php.net/get/gearman-{version}.tgz
    checksum: "0000000000000000000000000000000000000000000000000000000000000000"
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
tests:
  description: How the extension's own tests went for each PHP version that it was built and tested for.
  returned: success
  type: dict
  sample: {"8.4": {"passed": 65, "failed": 0, "skipped": 0}}
"""

from ..module_utils import module
from ..module_utils.php_extension import extension, sapis
from ..module_utils.php_extension.request import request_of

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "method": {"type": "str", "choices": ["package", "source"], "default": "package"},
    "version": {"type": "str"},
    "url": {"type": "list", "elements": "str", "default": []},
    "path": {"type": "path"},
    "debian": {"type": "bool", "default": True},
    "checksum": {"type": "str"},
    "run_tests": {"type": "bool", "default": False},
    "php": {"type": "list", "elements": "str", "default": []},
    "sapis": {
        "type": "list",
        "elements": "str",
        "choices": list(sapis.SAPIS),
        "default": ["cli"],
    },
    "worker_directory": {"type": "path"},
    "worker_files": {"type": "dict", "default": {}},
    **module.HOST_ARGUMENTS,
}


def converge(params, host):
    request = request_of(params)
    return extension.converge(request, sapis.Host(host.run), host.check_mode)


def main():
    module.run(ARGUMENTS, converge)


if __name__ == "__main__":
    main()
