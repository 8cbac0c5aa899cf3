# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether gearmand answers."""

from __future__ import annotations

import contextlib
import time

from ..failure import GearvisorError
from ..gearvisor.admin import Admin
from ..gearvisor.errors import GearmanError
from . import running

_POLL = 0.1


class NotReady(GearvisorError):
    """The server does not answer; the detail *log* has the end of its log."""


def wait(keeper, address, seconds, old=None):
    """Wait until a gearmand other than the Process *old* answers on *address*; return its version.

    Raises NotReady after so many seconds, or as soon as it has ended with an error.
    """
    deadline = time.monotonic() + seconds
    reason = "it does not run"
    while True:
        process = keeper.process()
        if process is not None and (old is None or process.identity() != old.identity()):
            try:
                with Admin(address, running.ADMIN_SECONDS) as admin:
                    return admin.version()
            except GearmanError as error:
                reason = str(error)
        elif keeper.crashed():
            reason = "it ended at once"
            break
        if time.monotonic() >= deadline:
            reason += f", {seconds} s (ready_timeout) after its start"
            break
        time.sleep(_POLL)
    raise NotReady(f"gearmand does not answer on {address}: {reason}", log=keeper.last_lines())


def version(address):
    """Return the version that the server reports, or None when it does not answer."""
    with contextlib.suppress(GearmanError), Admin(address, running.ADMIN_SECONDS) as admin:
        return admin.version()
    return None
