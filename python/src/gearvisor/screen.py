# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gearvisor top` and `gearvisor status --workers` print: lines of text, made without I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from . import diagnosis, summary
from .diagnosis import duration
from .escape import escaped
from .observe import View, Worker

_COLOURS = {
    diagnosis.CRITICAL: "\033[1;31m",  # bold red
    diagnosis.WARNING: "\033[33m",  # yellow
    diagnosis.NOTICE: "\033[36m",  # cyan
    diagnosis.FINE: "\033[32m",  # green
}
_BOLD, _PLAIN = "\033[1m", "\033[0m"
_NAME = 24  # characters of a name

_Rows = Sequence[Sequence[str]]


def screen(
    view: View, before: View | None, width: int, height: int, colours: bool, host: str
) -> list[str]:
    """Return at most `height` lines of `width` columns; what does not fit is counted."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(view.now))
    title = f"gearvisor top  {host}  {stamp}  failed jobs kept: {view.failed[0]}"
    lines = [_cut(title, width)]
    findings = diagnosis.diagnose(view)
    room = max(1, min(len(findings), height // 4))
    for finding in findings[:room]:
        text = _cut(f"{finding.severity}: {finding.text}", width)
        lines.append(f"{_COLOURS[finding.severity]}{text}{_PLAIN}" if colours else text)
    if len(findings) > room:
        lines.append(f"... {len(findings) - room} more; see --json")
    tables = [_servers(view), _functions(view, before), _workers(view)]
    left = height - len(lines) - 2 * len(tables)  # a blank line and a heading each
    for number, rows in enumerate(tables):
        body = len(rows) - 1
        share = body if number == len(tables) - 1 else max(2, left // (len(tables) - number))
        shown = max(0, min(body, left, share))
        left -= shown
        lines.append("")
        if shown < body:
            (name, *others), *rest = rows
            rows = [(f"{name} (+{body - shown})", *others), *rest]
        heading, *cells = _columns(rows, width)
        lines.append(f"{_BOLD}{heading}{_PLAIN}" if colours else heading)
        lines += cells[:shown]
    return lines[:height]


def document(view: View, before: View | None = None) -> dict[str, Any]:
    """Return the view for programs; names are as they are, not escaped."""
    return {
        "time": round(view.now, 3),
        "diagnosis": [finding._asdict() for finding in diagnosis.diagnose(view)],
        "servers": [
            {
                "server": each.address,
                "up": each.up,
                "error": each.error or None,
                "version": each.version or None,
                "seconds": round(each.seconds, 6),
                "oldest": each.oldest,
            }
            for each in view.servers
        ],
        "functions": {
            row.name: {key: value for key, value in row._asdict().items() if key != "name"}
            for row in summary.functions(view, before)
        },
        "workers": [
            {**each.facts, "user": each.user, "process": each.name, "alive": each.alive}
            for each in view.workers
        ],
        "processes": None
        if view.processes is None
        else [process._asdict() for process in view.processes],
        "paused": dict(view.paused),
        "failed": {"entries": view.failed[0], "bytes": view.failed[1]},
        "rollout": None
        if view.rollout is None
        else {**view.rollout._asdict(), "steps": [step._asdict() for step in view.rollout.steps]},
    }


def _servers(view: View) -> _Rows:
    rows = [("SERVER", "STATE", "VERSION", "OLDEST", "MS")]
    for each in view.servers:
        oldest = "-" if each.oldest is None else duration(each.oldest)
        state = "up" if each.up else "DOWN"
        rows.append((each.address, state, each.version, oldest, f"{each.seconds * 1000:.0f}"))
    return rows


def _functions(view: View, before: View | None) -> _Rows:
    rows = [("FUNCTION", "WAITING", "RUNNING", "WORKERS", "JOBS/S", "WAIT", "FAILED", "STATE")]
    found = summary.functions(view, before)
    for row in sorted(found, key=lambda row: (-row.waiting, -row.running, row.name)):
        wait = "-" if row.wait_mean is None else f"{row.wait_mean:.2f} s"
        state = "" if row.paused_since is None else "paused"
        counts = (str(row.waiting), str(row.running), str(row.workers), f"{row.rate:.1f}")
        rows.append((row.name, *counts, wait, str(row.failed), state))
    return rows


def _workers(view: View) -> _Rows:
    rows = [("WORKER", "PID", "JOB", "SINCE", "MIB", "DONE", "FAILED", "RESTARTS")]
    restarts = {each.name: len(each.failures) for each in view.processes or ()}

    def order(worker: Worker) -> tuple[float, str]:
        job = worker.facts["job"]
        return (job["since"] if job else float("inf"), worker.name)

    for each in sorted(view.workers, key=order):
        job, rss = each.facts["job"], each.facts["rss"]
        name = job["function"] if job else ("idle" if each.alive else "gone")
        if job and not each.alive:
            name = f"died in {name}"
        since = duration(view.now - job["since"]) if job else "-"
        counts = (str(each.facts["done"]), str(each.facts["failed"]))
        memory = "-" if rss is None else f"{rss:.0f}"
        times = str(restarts.get(each.name, "-"))
        rows.append((each.name, str(each.facts["pid"]), name, since, memory, *counts, times))
    return rows


def _columns(rows: _Rows, width: int) -> Iterator[str]:
    """Text on the left; what begins with a digit, and its heading, on the right."""
    shown = [[escaped(cell, _NAME) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown)]
    right = [any(row[column][:1].isdigit() for row in shown[1:]) for column in range(len(widths))]
    right[0] = False
    for row in shown:
        cells = [
            cell.rjust(size) if on_right else cell.ljust(size)
            for cell, size, on_right in zip(row, widths, right)
        ]
        yield _cut("  ".join(cells).rstrip(), width)


def _cut(text: str, width: int) -> str:
    return escaped(text, max(width, 4))
