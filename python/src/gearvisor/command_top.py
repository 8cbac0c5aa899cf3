# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor top`: what goes on, why it is slow, and what each worker of this host does."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time

from .command_line import (
    NO_SERVER,
    OK,
    add_server_options,
    print_json,
    seconds,
    servers,
    ssl_context,
)
from .observe import View, observe
from .screen import document, screen

_HOME, _CLEAR_LINE, _CLEAR_REST = "\033[H", "\033[K", "\033[J"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_server_options(parser)
    parser.add_argument("--once", action="store_true", help="print it once, whole")
    parser.add_argument("--json", action="store_true", help="print a JSON object each time")
    parser.add_argument(
        "--interval", type=seconds, default=2.0, metavar="S", help="seconds between (default 2)"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=2.0, metavar="S", help="seconds a server (default 2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it until interrupted; once, where the output is not a terminal."""
    addresses, context = servers(arguments), ssl_context(arguments)
    terminal = sys.stdout.isatty()
    once = arguments.once or not (terminal or arguments.json)
    before: View | None = None
    while True:
        view = observe(addresses, arguments.timeout, context)
        if arguments.json:
            print_json(document(view, before))
        elif once:
            _print(view, 200, 100_000, terminal)
        else:
            size = shutil.get_terminal_size((80, 24))
            _refresh(view, before, size.columns, size.lines)
        if once:
            return OK if any(server.up for server in view.servers) else NO_SERVER
        before = view
        time.sleep(arguments.interval)


def _print(view: View, width: int, height: int, colours: bool) -> None:
    lines = screen(view, None, width, height, colours, os.uname().nodename)
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _refresh(view: View, before: View | None, width: int, height: int) -> None:
    lines = screen(view, before, width, height, True, os.uname().nodename)
    body = f"{_CLEAR_LINE}\n".join(lines)
    sys.stdout.write(f"{_HOME}{body}{_CLEAR_LINE}{_CLEAR_REST}")
    sys.stdout.flush()
