# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor cancel`: fail the waiting jobs of a function, and keep them as failed jobs."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from typing import TYPE_CHECKING

from . import failed
from .command_line import (
    FAILED,
    OK,
    UsageError,
    add_server_options,
    print_json,
    print_message,
    servers,
    ssl_context,
)
from .connection import Connection, parse_server
from .directory import make_directory
from .errors import ServerUnavailable
from .escape import escaped
from .failed_jobs import FailedJobError
from .failed_store import FailedStore
from .protocol import Packet, check_function, encode

if TYPE_CHECKING:
    import ssl

ANSWER = 10.0  # seconds that a job server may take for an answer
ERROR = "cancelled by an operator"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    add_server_options(parser)
    parser.add_argument("function", metavar="FUNCTION")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help=f"where the jobs are kept (default: {failed.DIRECTORY}/USER)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Cancel what waits now on each job server; raises GearmanError."""
    try:
        function = check_function(arguments.function)
    except ValueError as error:
        raise UsageError(str(error)) from None
    directory = arguments.directory or os.path.join(failed.DIRECTORY, _user())
    cancelled = 0
    try:
        make_directory(directory, 0o700)
        # Whatever their number: what is cancelled must not take the place of what was before it.
        store = FailedStore(directory, max_entries=sys.maxsize, max_bytes=sys.maxsize)
        for address in servers(arguments):
            cancelled += cancel(address, function, store, ssl_context(arguments))
    except OSError as error:
        return print_message(
            FAILED,
            f"{directory}: {error.strerror}; {cancelled} jobs were cancelled before. What is not"
            " kept is not cancelled. Run it as root, or name a --directory",
        )
    if arguments.json:
        print_json({"cancelled": cancelled})
    else:
        sys.stdout.write(f"{cancelled} cancelled; `gearvisor failed list` shows them\n")
    return OK


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        raise UsageError("this user has no name: give a --directory for the jobs") from None


def cancel(
    address: str, function: bytes, store: FailedStore, context: ssl.SSLContext | None = None
) -> int:
    """Take the waiting jobs of a function as a worker does, keep each, and fail it.

    A job is on the disk before it is failed: a command that is killed leaves it in the queue,
    on the disk, or in both. Returns the number of jobs; raises OSError and GearmanError.
    """
    connection = Connection(*parse_server(address), ANSWER, context)
    cancelled = 0
    try:
        connection.send(encode(Packet.CAN_DO, function))
        while True:
            connection.send(encode(Packet.GRAB_JOB_UNIQ))
            kind, arguments = _answer(connection)
            if kind == Packet.NO_JOB:
                return cancelled
            handle, name, unique, payload = arguments
            if len(payload) > failed.MAX_PAYLOAD:
                job = escaped(handle.decode(errors="replace"))
                raise FailedJobError(
                    f"job {job}: {len(payload)} bytes are more than the {failed.MAX_PAYLOAD} that"
                    f" are kept, so it stays; {cancelled} jobs were cancelled before it"
                )
            now = time.time()
            attempt = failed.attempt_of(
                unique=unique, handle=handle, outcome="failed", error=ERROR, traceback=None,
                started=now, failed=now, worker="gearvisor cancel", release=None,
            )  # fmt: skip
            store.add(name.decode(errors="replace"), payload, attempt, whole=True)
            connection.send(encode(Packet.WORK_FAIL, handle))
            cancelled += 1
    finally:
        connection.finish(1)


def _answer(connection: Connection) -> tuple[Packet, list[bytes]]:
    deadline = time.monotonic() + ANSWER
    while True:
        packet = connection.receive(max(0.0, deadline - time.monotonic()))
        if packet is None:
            raise ServerUnavailable(connection.server, f"no answer in {ANSWER:g} s")
        if packet[0] in (Packet.NO_JOB, Packet.JOB_ASSIGN_UNIQ):
            return packet
