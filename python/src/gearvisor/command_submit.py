# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor submit`: submit a job and print its result."""

from __future__ import annotations

import argparse
import os
import sys

from .client import Client
from .command_line import (
    OK,
    UsageError,
    add_server_options,
    print_json,
    seconds,
    servers,
    ssl_context,
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_server_options(parser)
    parser.add_argument("function", metavar="FUNCTION")
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="the payload; - is standard input, as is none at all unless that is a terminal",
    )
    parser.add_argument(
        "--background", action="store_true", help="only queue the job, and print its handle"
    )
    parser.add_argument("--priority", choices=("high", "normal", "low"), default="normal")
    parser.add_argument(
        "--unique", metavar="ID", help="unique id (default: a UUID of version 7, time in front)"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help="seconds for all of it (default: no limit)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Submit the job; raises GearmanError."""
    if arguments.data is None and sys.stdin.isatty():
        data = b""
    elif arguments.data in (None, "-"):
        data = sys.stdin.buffer.read()
    else:
        data = os.fsencode(arguments.data)
    try:
        with Client(servers(arguments), ssl_context=ssl_context(arguments)) as client:
            result = client.submit(
                arguments.function,
                data,
                background=arguments.background,
                priority=arguments.priority,
                unique=arguments.unique,
                timeout=arguments.timeout,
            )
    except ValueError as error:
        raise UsageError(str(error)) from None
    if arguments.json:
        import base64

        document = {
            "function": arguments.function,
            "handle": result.handle,
            "unique": result.unique,
            "server": result.server,
            "seconds": round(result.seconds, 6),
        }
        if not arguments.background:
            document["result"] = _text(result.data)
            document["result_base64"] = base64.b64encode(result.data).decode()
        print_json(document)
    elif arguments.background:
        sys.stdout.write(f"{result.handle}\n")
    else:
        sys.stdout.buffer.write(result.data)
        if sys.stdout.isatty() and not result.data.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")  # for the prompt; a program gets the bytes alone
    sys.stdout.flush()
    return OK


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
