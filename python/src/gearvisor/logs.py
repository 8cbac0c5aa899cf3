# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log lines of `gearvisor worker`, for people or as JSON for programs. Times are UTC."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from .escape import escaped

FORMATS = ("text", "json")

# What a line about a job carries besides its message: see Worker.
JOB_FIELDS = ("function", "handle", "unique", "seconds", "outcome")


class _Text(logging.Formatter):
    """One line per entry, for any content; a traceback follows, each of its lines indented.

    So neither a payload nor an exception's text can forge an entry or control a terminal.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(record.created))

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"    {escaped(line)}" for line in lines)


class _Json(logging.Formatter):
    def __init__(self, client_id: str) -> None:
        super().__init__()
        self._client_id = client_id

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.created % 1 * 1000):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "worker": self._client_id,
        }
        line.update((name, getattr(record, name)) for name in JOB_FIELDS if hasattr(record, name))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(level: str, style: str, client_id: str) -> None:
    """Write the log to stderr: `level` and worse, in one of FORMATS."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json(client_id) if style == "json" else _Text())
    logging.basicConfig(level=level.upper(), handlers=[handler])
