# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gearmand as a service for keeper/: Debian's unit with a drop-in of ours, or a Supervisor program."""

from __future__ import annotations

from ..host import systemd
from ..keeper.init_script import InitScript
from ..keeper.service import Service
from ..keeper.unit import Unit
from . import config

NAME = "gearman-job-server"
DROP_IN = f"/etc/systemd/system/{NAME}.service.d/gearvisor.conf"
FLEET = "gearman_job_server"
COMMANDS = {"systemd": config.systemd_command(), "supervisor": config.supervisor_command()}


def service(settings, run):
    """Return the keeper's Service of a gearmand with these Settings."""
    result = Service(
        name=NAME,
        executable=config.GEARMAND,
        fleet=FLEET,
        unit_files={DROP_IN: config.drop_in_text(settings)},
        program=config.supervisor_program(),
    )
    return result._replace(rival=_debians(result, run))


def _debians(service, run):
    """Return Debian's own service, which must not run beside a Supervisor program."""
    if systemd.runs():
        return Unit(service, run)
    return InitScript(NAME, config.GEARMAND, config.PID_FILE, run)
