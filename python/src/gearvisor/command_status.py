# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor status`: print the jobs and workers of each function."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from .admin import Admin
from .command_line import (
    NO_SERVER,
    OK,
    add_server_options,
    print_json,
    print_message,
    seconds,
    servers,
    ssl_context,
    table,
)
from .errors import ServerUnavailable
from .observe import observe
from .screen import document, screen

if TYPE_CHECKING:
    import ssl


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_server_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.add_argument(
        "--workers",
        action="store_true",
        help="also why it is slow, and what each worker of this host does",
    )
    parser.add_argument("--watch", type=seconds, metavar="S", help="print again each S seconds")
    parser.add_argument(
        "--timeout", type=seconds, default=5.0, metavar="S", help="seconds a server (default 5)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it, once or again and again; raises GearmanError."""
    addresses, context = servers(arguments), ssl_context(arguments)
    while True:
        code = _once(addresses, context, arguments)
        sys.stdout.flush()
        if arguments.watch is None:
            return code
        time.sleep(arguments.watch)


def _once(
    addresses: list[str], context: ssl.SSLContext | None, arguments: argparse.Namespace
) -> int:
    documents: list[dict[str, Any]] = []
    failures = []
    for address in addresses:
        try:
            with Admin(address, arguments.timeout, context) as admin:
                documents.append(
                    {
                        "server": admin.server,
                        "version": admin.version(),
                        "functions": {
                            name: status._asdict() for name, status in admin.status().items()
                        },
                        "workers": [worker._asdict() for worker in admin.workers()],
                    }
                )
        except ServerUnavailable as error:
            failures.append(error)
    view = observe(addresses, arguments.timeout, context) if arguments.workers else None
    if arguments.json:
        host = {} if view is None else {"host": document(view)}
        print_json({"servers": documents, **host})
    elif view is not None:
        host_name = os.uname().nodename
        colours = sys.stdout.isatty()
        lines = screen(view, None, 200, 100_000, colours, host_name)
        sys.stdout.write("\n".join(lines) + "\n")
    elif documents:
        if arguments.watch is not None and sys.stdout.isatty():
            sys.stdout.write("\033[H\033[2J")  # cursor home, clear
        rows: list[tuple[str, ...]] = [("SERVER", "FUNCTION", "QUEUED", "RUNNING", "WORKERS")]
        for each in documents:
            for name, counts in sorted(each["functions"].items()):
                rows.append((each["server"], name, *map(str, counts.values())))
        sys.stdout.write(table(rows))
    sys.stdout.flush()
    if not failures:
        return OK
    if not documents and arguments.watch is None:
        raise ServerUnavailable.of_all(failures)
    for failure in failures:
        print_message(NO_SERVER, str(failure))
    return NO_SERVER
