# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module's logic reports that it cannot continue."""

from __future__ import annotations

_LONGEST_VALUE = 300
_LONGEST_PART = 1500


def shown(value):
    """Return the value as errors show it, cut where it would fill the screen."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Nested too deeply, or a number with thousands of digits.
        return "(not shown)"
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."


def _sentences(option, value, problem, way_out):
    # Both may repeat a part of the value.
    return f"{option}: {shown(value)} {problem[:_LONGEST_PART]}. {way_out[:_LONGEST_PART]}"


class GearvisorError(Exception):
    """A failure the user can act on; module.run() turns it into fail_json.

    *details* are extra return values of the failed task (JSON types only).
    """

    def __init__(self, message, **details):
        super().__init__(message)
        self.details = details


class InvalidOption(GearvisorError):
    """An option's value cannot work. Always raised before anything on the host is changed.

    The text always names the option, the value, what is wrong with it and the way out.
    """

    def __init__(self, option, value, problem, way_out, **details):
        super().__init__(_sentences(option, value, problem, way_out), option=option, **details)


class Refused(GearvisorError):
    """The host refuses what an option asks for, which only showed while it was being done.

    The text has the same parts as InvalidOption's; the code that raises it also states what was put back.
    """

    def __init__(self, option, value, problem, way_out, **details):
        super().__init__(_sentences(option, value, problem, way_out), option=option, **details)


class Interrupted(BaseException):
    """A signal asks the module to end. Not an Exception, so that only put-back code sees it.

    Raised by the signal handlers of module.run(), in the main thread.
    """

    def __init__(self, signal_name):
        super().__init__(signal_name)
        self.signal_name = signal_name
