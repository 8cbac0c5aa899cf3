# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What job servers report about themselves: the module gearman_info."""

from __future__ import annotations

import contextlib
import re

from ..failure import InvalidOption
from ..gearvisor.admin import Admin
from ..gearvisor.connection import parse_server
from ..gearvisor.errors import GearmanError
from ..outcome import Outcome
from .sentinels import Sentinels, without

LONGEST_TIMEOUT = 3600


def check_servers(servers):
    """Raise InvalidOption when there is none, or one of *servers* is not an address."""
    if not servers:
        raise InvalidOption("servers", servers, "is empty", "Write for example 127.0.0.1:4730")
    for server in servers:
        try:
            if re.search(r"[\0- \x7f\ud800-\udfff]", server):
                raise ValueError("it holds a blank, a control character or an incomplete character")
            parse_server(server)
        except ValueError as error:
            raise InvalidOption(
                "servers", server, f"is not a job server: {error}", "Write host:port"
            ) from None


def check_timeout(seconds):
    """Raise InvalidOption for a number of seconds that is nothing, endless or not a number."""
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise InvalidOption(
            "timeout",
            seconds,
            f"is not more than 0 and at most {LONGEST_TIMEOUT}",
            "Give seconds, for example 10",
        )


def gather(params, _host):
    """Return the Outcome of the module gearman_info."""
    check_servers(params["servers"])
    check_timeout(params["timeout"])
    servers = [_inspect(server, params["timeout"]) for server in params["servers"]]
    return Outcome(details={"servers": servers})


def _inspect(server, timeout):
    try:
        with Admin(server, timeout=timeout) as admin:
            version, status = admin.version(), admin.status()
            queued = [name for name, jobs in status.items() if jobs.queued]
            # Job servers other than gearmand may not know what is asked here.
            with contextlib.suppress(GearmanError):
                status = without(status, Sentinels(admin).count(queued) if queued else {})
            return {
                "server": server,
                "reachable": True,
                "version": version,
                "functions": {name: jobs._asdict() for name, jobs in status.items()},
                "workers": [
                    {
                        "address": worker.address,
                        "client_id": worker.client_id,
                        "functions": sorted(worker.functions),
                    }
                    for worker in admin.workers()
                    if worker.functions
                ],
            }
    except GearmanError as error:
        return {"server": server, "reachable": False, "error": str(error)}
