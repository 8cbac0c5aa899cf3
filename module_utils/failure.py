# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way a module's logic says that it cannot go on."""

from __future__ import annotations


class GearvisorError(Exception):
    """A failure the user can act on; a module's main() turns it into fail_json.

    *details* are extra return values of the failed task (JSON types only).
    """

    def __init__(self, message, **details):
        super().__init__(message)
        self.details = details


class InvalidOption(GearvisorError):
    """An option's value cannot work. Raised before anything on the host is changed.

    The text always names the option, the value and the way out.
    """

    def __init__(self, option, value, problem, way_out, **details):
        super().__init__(f"{option}: {value!r} {problem}. {way_out}", option=option, **details)
