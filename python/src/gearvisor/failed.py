# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failed jobs as they are kept: one file ID.json for each. No I/O here.

docs/worker-facts.md has the format, which PHP workers write as well. Each attempt of a job is in
its entry: the first, and each retry that failed again. A retry carries the unique id
`gvr:ID:ATTEMPT`, so that it is recognised on every host.

Readers are often root, writers are not: parse() treats the content as untrusted.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

DIRECTORY = "/var/lib/gearvisor/failed"  # one directory per user in it
VERSION = 1  # of the format
MAX_PAYLOAD = 16 * 2**20  # bytes of a payload that is kept
MAX_BYTES = 24 * 2**20  # of a file: the payload takes four thirds of its size
MAX_TEXT = 65536  # characters kept of an error's text and of a traceback
MAX_ATTEMPTS = 100  # kept of an entry: the first and the latest

OUTCOMES = ("failed", "exception", "timeout", "died")

_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID, as unique_ids.make() makes it
_FILE_NAME = re.compile(f"({_ID})\\.json")
_RETRY = re.compile(f"gvr:({_ID}):([1-9][0-9]{{0,8}})".encode())

_TEXTS = ("unique", "handle", "outcome", "error", "worker")
_TEXTS_OR_NONE = ("traceback", "release")
_TIMES = ("started", "failed")


def file_name(entry_id: str) -> str:
    """Return the name of an entry's file."""
    return f"{entry_id}.json"


def id_of(name: str) -> str | None:
    """Return the entry's id in the name of a file; None: it is not the name of an entry's file."""
    found = _FILE_NAME.fullmatch(name)
    return found and found.group(1)


def retry_unique(entry_id: str, attempt: int) -> str:
    """Return the unique id of a retry; attempt: 2 for the first one, the job itself was 1."""
    return f"gvr:{entry_id}:{attempt}"


def parse_retry(unique: bytes) -> tuple[str, int] | None:
    """Return the entry's id and the attempt in a retry's unique id; None: it is not a retry's."""
    found = _RETRY.fullmatch(unique)
    return found and (found.group(1).decode("ascii"), int(found.group(2)))


def attempt_of(
    *,
    unique: bytes,
    handle: bytes,
    outcome: str,
    error: str,
    traceback: str | None,
    started: float,
    failed: float,
    worker: str,
    release: str | None,
) -> dict[str, Any]:
    """Return one attempt as an entry has it; times are seconds since the epoch."""
    return {
        "unique": unique.decode(errors="replace"),
        "handle": handle.decode(errors="replace"),
        "outcome": outcome,
        "error": error[:MAX_TEXT],
        "traceback": None if traceback is None else traceback[-MAX_TEXT:],
        "started": round(started, 3),
        "failed": round(failed, 3),
        "worker": worker,
        "release": release,
    }


def entry_of(
    entry_id: str, function: str, attempt: dict[str, Any], payload: bytes | None, size: int
) -> dict[str, Any]:
    """Return a new entry; payload: None when it is not to be kept, size: its bytes."""
    kept = payload is not None and size <= MAX_PAYLOAD
    return {
        "version": VERSION,
        "id": entry_id,
        "function": function,
        **attempt,
        "attempts": [attempt],
        "payload_bytes": size,
        "payload": base64.b64encode(payload).decode("ascii") if payload and kept else (
            "" if kept else None
        ),
    }  # fmt: skip


def with_attempt(entry: dict[str, Any], attempt: dict[str, Any]) -> dict[str, Any]:
    """Return the entry with one more attempt, whose facts are now the entry's own."""
    attempts = [*entry["attempts"], attempt]
    if len(attempts) > MAX_ATTEMPTS:
        attempts = [attempts[0], *attempts[1 - MAX_ATTEMPTS :]]
    return {**entry, **attempt, "attempts": attempts}


def payload_of(entry: dict[str, Any]) -> bytes | None:
    """Return the payload of an entry, or None when it was not kept."""
    return None if entry["payload"] is None else base64.b64decode(entry["payload"])


def dump(entry: dict[str, Any]) -> bytes:
    """Return an entry as the content of its file."""
    return json.dumps(entry).encode("ascii") + b"\n"


def parse(content: bytes, entry_id: str) -> dict[str, Any]:
    """Return the entry in a file's content, every member of its type; raises ValueError.

    entry_id: the id in the file's name, which the content must repeat.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES} bytes")
    try:
        given = json.loads(content, parse_int=_integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(given, dict) or given.get("id") != entry_id:
        raise ValueError("not the failed job that its name gives")
    version = given.get("version")
    if not isinstance(version, int) or not 0 < version <= VERSION:
        raise ValueError(f"version {version!r} of the format; this Gearvisor knows {VERSION}")
    function, payload = given.get("function"), given.get("payload")
    if not isinstance(function, str) or not function:
        raise ValueError("no name of a function")
    if payload is not None:
        try:
            base64.b64decode(payload, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise ValueError("the payload is not base64") from None
    attempts = given.get("attempts")
    return {
        "version": version,
        "id": entry_id,
        "function": function,
        **_attempt(given),
        "attempts": [_attempt(each) for each in attempts[:MAX_ATTEMPTS] if isinstance(each, dict)]
        if isinstance(attempts, list)
        else [],
        "payload_bytes": max(0, int(_number(given.get("payload_bytes")))),
        "payload": payload,
    }


def _attempt(given: dict[str, Any]) -> dict[str, Any]:
    texts = {name: given.get(name) for name in (*_TEXTS, *_TEXTS_OR_NONE)}
    taken: dict[str, Any] = {
        name: value
        if isinstance(value, str)
        else (None if name in _TEXTS_OR_NONE else "")
        for name, value in texts.items()
    }  # fmt: skip
    return {**taken, **{name: _number(given.get(name)) for name in _TIMES}}


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= 20 else 0  # many take Python long, or are refused


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return 0
