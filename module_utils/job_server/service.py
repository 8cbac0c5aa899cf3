# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gearmand as a service for keeper/: Debian's unit with Gearvisor's drop-in, or a Supervisor program."""

from __future__ import annotations

import grp
import os
import stat

from ..host.files import read_bytes
from ..keeper.init_script import InitScript
from ..keeper.service import Service
from ..keeper.unit import Unit
from . import config, queues, unit

NAME = "gearman-job-server"
DROP_IN = f"/etc/systemd/system/{NAME}.service.d/gearvisor.conf"
FLEET = "gearman_job_server"


def service(settings, host):
    """Return the keeper's Service of a gearmand with these Settings."""
    result = Service(
        name=NAME,
        executable=config.GEARMAND,
        fleet=FLEET,
        unit_files={DROP_IN: unit.drop_in_text(settings)},
        program=unit.supervisor_program(),
    )
    # Debian's own service must not run beside a Supervisor program.
    if host.systemd:
        return result._replace(rival=Unit(result, host.run))
    rival = InitScript(NAME, config.GEARMAND, config.PID_FILE, host.run)
    return result._replace(rival=rival)


def command(manager, host):
    """Return the command line of a gearmand that this service manager started."""
    path = host.path(config.CONFIG)
    return config.systemd_command(path) if manager == "systemd" else config.supervisor_command(path)


def group_id():
    """Return the id of the group of the package's user."""
    return grp.getgrnam(config.USER).gr_gid


def want_defaults(changes, host, text_of):
    """Want Debian's own file of options, where it exists, to be what *text_of* makes of its text."""
    path = host.path(config.DEFAULTS)
    if not os.path.isfile(path) or os.path.islink(path):
        return
    found = os.stat(path)
    text = read_bytes(path).decode(errors="surrogateescape")
    changes.want(
        config.DEFAULTS,
        text_of(text).encode(errors="surrogateescape"),
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        # Its options may hold a database's password.
        queues.without_secrets,
    )
