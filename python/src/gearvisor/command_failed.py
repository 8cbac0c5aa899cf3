# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor failed`: list, show, retry and drop the jobs that failed on this host."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Callable

from . import failed, failed_jobs
from .command_line import (
    FAILED,
    OK,
    UsageError,
    add_server_options,
    print_json,
    print_message,
    servers,
    ssl_context,
    table,
)
from .errors import GearmanError, ServerUnavailable
from .escape import escaped
from .failed_jobs import FailedJobError, Filter, Place

LIMIT = 50  # entries that `list` shows by default
PAYLOAD_SHOWN = 2000  # characters
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_Chosen = Iterator[tuple[Place, dict[str, Any]]]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of list, show, retry and drop."""
    verbs = parser.add_subparsers(title="what to do", metavar="VERB", required=True, dest="verb")
    listing = verbs.add_parser("list", help="print the failed jobs, the newest first")
    show = verbs.add_parser("show", help="print all that is known of a failed job")
    again = verbs.add_parser("retry", help="submit failed jobs again, in the background")
    drop = verbs.add_parser("drop", help="delete failed jobs, with their payloads")
    for verb in (again, drop):
        verb.add_argument("--all", action="store_true", help="all that the filters leave")
    show.add_argument("ids", nargs="+", metavar="ID", help="an id, or its beginning")
    for verb in (again, drop):
        verb.add_argument("ids", nargs="*", metavar="ID", help="an id, or its beginning")
        verb.add_argument(
            "--missing-ok", action="store_true", help="leave out ids that this host does not have"
        )
    listing.add_argument(
        "--limit", type=_limit, default=LIMIT, metavar="N", help=f"0: all (default {LIMIT})"
    )
    for verb in (listing, again, drop):
        verb.add_argument("--function", metavar="NAME", help="only those of this function")
        verb.add_argument(
            "--since",
            type=_since,
            metavar="WHEN",
            help="only those that failed since then: 30m, 2h, 3d, or 2026-01-31T12:00",
        )
        verb.add_argument("--text", metavar="TEXT", help="only those with it in error or payload")
    for verb in (listing, show, again, drop):
        verb.add_argument("--user", metavar="NAME", help="only those of this user's workers")
        verb.add_argument("--json", action="store_true", help="print a JSON object")
        verb.add_argument(
            "--directory", default=failed.DIRECTORY, metavar="DIR", help=f"({failed.DIRECTORY})"
        )
    add_server_options(again)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the verb; raises GearmanError."""
    verbs: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "show": _show,
        "retry": _retry,
        "drop": _drop,
    }
    for entry_id in failed_jobs.recover(arguments.directory):
        print_message(OK, f"{entry_id}: its retry was cut off; it is listed again")
    return verbs[arguments.verb](arguments)


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _since(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text)
    if found:
        return time.time() - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; write 30m, 2h, 3d or 2026-01-31T12:00"
        ) from None


def _filter(arguments: argparse.Namespace) -> Filter:
    return Filter(arguments.function, arguments.since, arguments.text)


def _places(arguments: argparse.Namespace) -> list[Place]:
    return failed_jobs.places(arguments.directory, arguments.user)


def _list(arguments: argparse.Namespace) -> int:
    places, errors = _places(arguments), Errors()
    chosen = failed_jobs.select(places, _filter(arguments), errors)
    entries: list[dict[str, Any]] = []
    more = False
    for place, entry in chosen:
        if arguments.limit and len(entries) == arguments.limit:
            more = True
            break
        entries.append(_summary(place, entry))
    shown, hidden = failed_jobs.users(arguments.directory, arguments.user)
    for name in hidden:
        text = f"{name}: its failed jobs are for root and the group gearvisor"
        if shown:
            print_message(OK, text)
        else:
            errors(text)
    if arguments.json:
        complete = not more and not hidden
        print_json({"total": len(places), "complete": complete, "entries": entries})
        return errors.code
    rows: list[tuple[str, ...]] = [("ID", "FAILED", "FUNCTION", "USER", "TIMES", "ERROR")]
    for each in entries:
        rows.append(
            (
                each["id"],
                _time(each["failed"]),
                each["function"],
                each["user"],
                str(each["times"]),
                f"died: {each['error']}" if each["outcome"] == "died" else each["error"],
            )
        )
    if entries:
        sys.stdout.write(table(rows, texts=len(rows[0])))
    if more:
        print_message(OK, f"the newest {len(entries)}; {len(places)} in all. --limit 0 shows all")
    return errors.code


def _summary(place: Place, entry: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in entry.items() if name not in ("payload", "attempts")}
    return {**kept, "user": place.user, "times": failed_jobs.attempts(entry)}


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "?"


def _show(arguments: argparse.Namespace) -> int:
    places = _places(arguments)
    shown = []
    for given in arguments.ids:
        place = failed_jobs.resolve(places, given)
        shown.append({**failed_jobs.read(place), "user": place.user})
    if arguments.json:
        print_json({"entries": shown})
    else:
        sys.stdout.write("\n".join(map(_described, shown)))
    return OK


def _described(entry: dict[str, Any]) -> str:
    lines = [f"{name:10} {escaped(str(entry[name]))}" for name in ("id", "function", "user")]
    for number, attempt in enumerate(entry["attempts"] or [entry], 1):
        lines.append(f"attempt {number}")
        lines.append(f"  failed   {_time(attempt['failed'])}, {attempt['outcome']}")
        lines.append(f"  after    {max(0.0, attempt['failed'] - attempt['started']):.3f} s")
        for name in ("worker", "release", "handle", "unique", "error"):
            if attempt[name]:
                lines.append(f"  {name:8} {escaped(attempt[name])}")
        for line in (attempt["traceback"] or "").splitlines():
            lines.append(f"    {escaped(line)}")
    payload = failed.payload_of(entry)
    if payload is None:
        lines.append(f"payload    not kept ({entry['payload_bytes']} bytes)")
    else:
        text = escaped(payload[: 4 * PAYLOAD_SHOWN].decode(errors="surrogateescape"), PAYLOAD_SHOWN)
        lines.append(f"payload    {len(payload)} bytes: {text}")
    return "\n".join(lines) + "\n"


def _chosen(arguments: argparse.Namespace, errors: Errors) -> _Chosen:
    """The entries that retry and drop are for; raises UsageError when none are named."""
    wanted, places = _filter(arguments), _places(arguments)
    if arguments.ids:
        if arguments.all:
            raise UsageError("--all goes with filters, not with ids")
        known = places
        places = []
        for given in arguments.ids:
            if not arguments.missing_ok or failed_jobs.begin_so(known, given):
                places.append(failed_jobs.resolve(known, given))
    elif not arguments.all:
        raise UsageError(
            f"failed {arguments.verb}: name the ids of failed jobs, or give --all, with"
            " --function, --since, --text or --user for some of them"
        )
    return failed_jobs.select(places, wanted, errors)


def _retry(arguments: argparse.Namespace) -> int:
    from .client import Client

    errors, done = Errors(), []
    with Client(servers(arguments), timeout=30, ssl_context=ssl_context(arguments)) as client:

        def submit(function: str, payload: bytes, unique: str) -> None:
            client.submit(function, payload, background=True, unique=unique)

        try:
            for place, entry in _chosen(arguments, errors):
                try:
                    unique = failed_jobs.retry(place, submit)
                except ServerUnavailable:
                    raise
                except (GearmanError, ValueError) as error:
                    errors(error if isinstance(error, FailedJobError) else f"{place.id}: {error}")
                else:
                    done.append({"id": place.id, "function": entry["function"], "unique": unique})
        except ServerUnavailable:
            print_message(FAILED, f"{len(done)} submitted again before the job servers were gone")
            raise
    if arguments.json:
        print_json({"retried": done, "errors": errors.texts})
    else:
        sys.stdout.write(f"{len(done)} submitted again\n")
    return errors.code


def _drop(arguments: argparse.Namespace) -> int:
    errors, done = Errors(), []
    for place, entry in _chosen(arguments, errors):
        try:
            failed_jobs.drop(place)
        except FailedJobError as error:
            errors(error)
        else:
            done.append({"id": place.id, "function": entry["function"]})
    if arguments.json:
        print_json({"dropped": done, "errors": errors.texts})
    else:
        sys.stdout.write(f"{len(done)} dropped\n")
    return errors.code


class Errors:
    """Errors of single entries: shown at once, and counted for the exit code."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.code = OK

    def __call__(self, error: object) -> None:
        self.texts.append(str(error))
        self.code = print_message(FAILED, str(error))
