# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the commands of `gearvisor` share: exit codes, common options and their values.

A module of a command has configure(parser), which adds its options, and run(arguments), which
returns its exit code.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable

from .connection import format_server, parse_server
from .escape import escaped

if TYPE_CHECKING:
    import ssl

CELL = 60  # characters of a name in a table, at most
OK, FAILED, USAGE, NO_SERVER, TIMEOUT = range(5)

# Option, environment variable, meaning. All files are PEM.
TLS_OPTIONS = (
    ("--tls-ca", "GEARVISOR_TLS_CA", "CA certificates to check the job server's certificate with"),
    ("--tls-cert", "GEARVISOR_TLS_CERT", "certificate to show, with its chain"),
    ("--tls-key", "GEARVISOR_TLS_KEY", "private key of --tls-cert"),
)


class UsageError(Exception):
    """The command line is wrong in a way argparse cannot see."""


def print_message(code: int, text: str) -> int:
    """Write a line to standard error, escaped, and return the exit code given."""
    sys.stderr.write(f"gearvisor: {escaped(text)}\n")
    return code


def table(rows: Sequence[Sequence[str]], texts: int = 2) -> str:
    """Columns as wide as their widest cell; the first `texts` are text, the others numbers.

    Cells are escaped, and cut where they are longer than any sensible name.
    """
    shown = [[escaped(cell, CELL) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown)]
    lines = []
    for row in shown:
        cells = [
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def print_json(document: object) -> None:
    """Write a document as one line. What was not UTF-8 is a lone surrogate, "\\udcff"."""
    import json

    json.dump(document, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add --server and those of TLS."""
    parser.add_argument(
        "--server",
        action="append",
        type=_server,
        metavar="HOST:PORT",
        help="a job server; may be given several times",
    )
    tls = parser.add_argument_group(
        "TLS",
        "For job servers behind a TLS tunnel such as stunnel. Each defaults to the environment"
        " variable in brackets.",
    )
    for option, variable, what in TLS_OPTIONS:
        tls.add_argument(
            option,
            metavar="FILE",
            default=os.environ.get(variable) or None,
            help=f"{what} [{variable}]",
        )


def _server(text: str) -> str:
    try:
        return format_server(*parse_server(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(
    convert: Callable[[str], float], fits: Callable[[float], bool], words: str
) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = float("nan")
        if not fits(value):  # which nan never does
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return parse


count = _number(int, lambda value: value > 0, "a whole number above 0")
seconds = _number(float, lambda value: 0 < value < float("inf"), "a number of seconds above 0")
mebibytes = _number(float, lambda value: 0 < value < float("inf"), "a number of MiB above 0")
share = _number(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def servers(arguments: argparse.Namespace) -> list[str]:
    """The job servers of the options, of the environment, or the default."""
    given: list[str] | None = arguments.server
    if given:
        return given
    texts = os.environ.get("GEARVISOR_SERVERS", "").split(",")
    try:
        named = [_server(text.strip()) for text in texts if text.strip()]
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"environment variable GEARVISOR_SERVERS: {error}") from None
    return named or ["127.0.0.1:4730"]


def ssl_context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """A context that trusts --tls-ca alone and checks the server's name, or None without it."""
    if arguments.tls_ca is None:
        if arguments.tls_cert or arguments.tls_key:
            raise UsageError("--tls-cert and --tls-key require --tls-ca, the CA to trust")
        return None
    if arguments.tls_key and not arguments.tls_cert:
        raise UsageError(f"--tls-key {arguments.tls_key} needs its certificate: give --tls-cert")
    import ssl

    option = "--tls-ca", arguments.tls_ca
    try:
        context = ssl.create_default_context(cafile=arguments.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if arguments.tls_cert:
            option = "--tls-cert", arguments.tls_cert
            context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UsageError(
            f"{' '.join(option)}: {reason}. Name a PEM file that this user can read; a certificate"
            " and its --tls-key must belong together"
        ) from None
    return context
