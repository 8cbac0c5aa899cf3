# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor drain`: wait until no job is waiting or running."""

from __future__ import annotations

import argparse
import time
from typing import Any

from .admin import Admin
from .command_line import (
    OK,
    TIMEOUT,
    add_server_options,
    print_json,
    print_message,
    seconds,
    servers,
    ssl_context,
)

POLL = 0.5  # seconds between two looks at the queues


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_server_options(parser)
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help="default: all functions")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="seconds to wait (default: no limit)"
    )
    parser.add_argument("--json", action="store_true", help="print what is left as a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Wait; raises GearmanError."""
    addresses, context = servers(arguments), ssl_context(arguments)
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    while True:
        left: list[dict[str, Any]] = []
        for address in addresses:
            with Admin(address, ssl_context=context) as admin:
                for name, status in admin.status().items():
                    if arguments.functions and name not in arguments.functions:
                        continue
                    if status.queued or status.running:
                        left.append({"server": admin.server, "function": name, **status._asdict()})
        late = deadline is not None and time.monotonic() >= deadline
        if arguments.json and (late or not left):
            print_json({"left": left})
        if not left:
            return OK
        if late:
            texts = [
                "{function} on {server} has {queued} waiting and {running} running".format(**each)
                for each in left
            ]
            return print_message(
                TIMEOUT,
                f"--timeout {arguments.timeout:g}: {'; '.join(texts)}. Wait longer, or see with"
                " `gearvisor status` whether workers serve it",
            )
        pause = POLL
        if deadline is not None:
            pause = min(pause, max(0.0, deadline - time.monotonic()))
        time.sleep(pause)
