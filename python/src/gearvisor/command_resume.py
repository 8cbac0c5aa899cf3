# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor resume`: workers of this host take a paused function again."""

from __future__ import annotations

import argparse

from . import pause
from .command_line import UsageError
from .command_pause import report


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("functions", nargs="*", default=[], metavar="FUNCTION")
    which.add_argument("--all", action="store_true", help="all that are paused")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument(
        "--directory", default=pause.DIRECTORY, metavar="DIR", help=f"({pause.DIRECTORY})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Resume the functions; raises GearmanError."""
    functions = arguments.functions
    if arguments.all:
        functions = list(pause.paused(arguments.directory))
    try:
        changed = pause.resume(functions, arguments.directory)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return report(arguments, changed)
