# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Combinations of options that Supervisor accepts and that cost jobs or processes. All pure."""

from __future__ import annotations

from . import commands
from .options import DEFAULTS

# (what to look for, the warning). Supervisor's documentation has the pieces: "Process States"
# and the options' own entries; what they do together was tried with 4.2.5.
_CAUTIONS = (
    (
        lambda value: value("stopsignal") in ("KILL", "9"),
        "stopsignal: KILL ends a process in the middle of its job. Use TERM, and let it finish",
    ),
    (
        lambda value: value("stopwaitsecs") == 0,
        "stopwaitsecs: 0 kills a process as soon as it is asked to leave. Give more than its longest job",
    ),
    (
        lambda value: value("stopasgroup") and not commands.is_wrapper(value("command") or ""),
        "stopasgroup: true sends the stop signal to the programs that a running job has started, too. It is "
        "needed where the first process is a shell or another wrapper; otherwise killasgroup: true is enough",
    ),
    (
        lambda value: value("startsecs") == 0 and value("autorestart") is True,
        "startsecs: 0 with autorestart: true restarts a process that fails at once, without a pause and "
        "without ever giving it up. Use startsecs: 1",
    ),
    (
        lambda value: value("startretries") == 0 and value("autorestart") is True,
        "startretries: 0 gives a process up for good after one failed start. Use 3 or more",
    ),
)


def cautions(where, program):
    """Return what is worth a warning in a typed program; *where* names it."""

    def value(option):
        return program.get(option, DEFAULTS.get(option))

    found = [text for applies, text in _CAUTIONS if applies(value)]
    in_command = commands.advice(program.get("command", ""), bool(value("stopasgroup")))
    return [f"{where}: {text}" for text in found] + [
        f"{where}.command: {text}" for text in in_command
    ]
