# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which service manager keeps a service: the option service_manager of the modules."""

from __future__ import annotations

from ..failure import InvalidOption
from ..host import systemd
from .unit import Unit

MANAGERS = ("auto", "systemd", "supervisor")


def choose(service, service_manager, run, check_mode=False):
    """Return the Unit or the Program of a Service. Raises GearvisorError if its manager is missing.

    *service_manager*: one of MANAGERS; auto is systemd where it runs, and Supervisor elsewhere.
    """
    runs = systemd.runs()
    if service_manager == "systemd" and not runs:
        raise InvalidOption(
            "service_manager",
            service_manager,
            "does not run on this host",
            "Use auto or supervisor",
        )
    if runs and service_manager != "supervisor":
        return Unit(service, run)
    # Only here: Python compiles what a module imports at each run, and this is most of it.
    from ..supervisor import fleet
    from .program import Program

    return Program(service, fleet.Host(run), check_mode)
