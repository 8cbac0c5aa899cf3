# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor pause` and `gearvisor resume`: workers of this host stop taking a function."""

from __future__ import annotations

import argparse
import sys
import time

from . import pause
from .command_line import OK, UsageError, print_json
from .escape import escaped


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "functions", nargs="*", metavar="FUNCTION", help="none: print what is paused"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument(
        "--directory", default=pause.DIRECTORY, metavar="DIR", help=f"({pause.DIRECTORY})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Pause the functions; raises GearmanError."""
    try:
        changed = pause.pause(arguments.functions, arguments.directory)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return report(arguments, changed)


def report(arguments: argparse.Namespace, changed: list[str]) -> int:
    """Print what is paused now."""
    paused = pause.paused(arguments.directory)
    if arguments.json:
        print_json({"changed": changed, "paused": paused})
    else:
        for function, since in sorted(paused.items()):
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
            sys.stdout.write(f"{escaped(function)} is paused since {moment}\n")
        if not paused:
            sys.stdout.write("no function is paused\n")
    return OK
