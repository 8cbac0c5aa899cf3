# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor exporter`: metrics for Prometheus and a status page, over HTTP or into a file."""

from __future__ import annotations

import argparse
import signal

from .command_line import (
    OK,
    UsageError,
    add_server_options,
    seconds,
    servers,
    ssl_context,
)
from .connection import format_server, parse_server

LISTEN = "127.0.0.1:9418"
CERTIFICATES = ("/etc/gearvisor/tunnel/certificate.pem", "/etc/gearvisor/tunnel/ca.pem")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_server_options(parser)
    parser.add_argument(
        "--no-servers", action="store_true", help="only this host: ask no job server"
    )
    parser.add_argument(
        "--listen",
        type=_address,
        default=LISTEN,
        metavar="HOST:PORT",
        help=f"where /metrics and the page are served (default {LISTEN}). Anyone who reaches it can"
        " read it",
    )
    parser.add_argument(
        "--textfile",
        metavar="PATH",
        help="write the metrics there once and end, for node_exporter's textfile collector",
    )
    parser.add_argument(
        "--certificate",
        action="append",
        metavar="FILE",
        help="a certificate to watch; may be given several times (default: the tunnel's)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=2.0,
        metavar="S",
        help="seconds for all job servers together (default 2)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, or write the file."""
    from .exporter import Server, Sources, Watcher, write_textfile

    addresses = [] if arguments.no_servers else servers(arguments)
    watcher = Watcher(
        Sources(
            addresses,
            arguments.timeout,
            ssl_context(arguments),
            arguments.certificate or CERTIFICATES,
        )
    )
    if arguments.textfile:
        try:
            write_textfile(watcher, arguments.textfile)
        except OSError as error:
            raise UsageError(
                f"--textfile {arguments.textfile}: {error.strerror}. Name a file in a directory"
                " that exists and that this user may write to"
            ) from None
        return OK
    signal.signal(signal.SIGTERM, _leave)
    try:
        with Server(*parse_server(arguments.listen), watcher) as server:
            server.serve_forever()
    except OSError as error:
        raise UsageError(
            f"--listen {arguments.listen}: {error.strerror}. Name an address of this host and a"
            " port that is free"
        ) from None
    except KeyboardInterrupt:
        pass
    return OK


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(OK)


def _address(text: str) -> str:
    try:
        host, port = parse_server(text)
    except ValueError:
        host, port = "", 0
    if not host or not text.endswith(f":{port}"):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT or [IPV6]:PORT")
    return format_server(host, port)
