# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tables and the plot of ./run bench worker from its figures."""

import json
import math
import sys
from pathlib import Path

from report import curve, line, origin, table, targets, text
from report import svg as document

LABELS = {
    "ours": "gearvisor worker",
    "c": "C, libgearman",
    "php": "php/worker.php",
    "pygearman": "pygearman",
    "gear": "gear",
}
COLOURS = {
    "ours": "#1a7f37",
    "c": "#0969da",
    "php": "#8250df",
    "pygearman": "#9a6700",
    "gear": "#cf222e",
}


def write(result, directory):
    (directory / "worker.md").write_text("\n".join(_lines(result)))
    (directory / "worker.svg").write_text(svg(result))


def _rates(result):
    return {
        (case["worker"], case["bytes"], case["at_once"]): case["per_second"]
        for case in result["rates"]
    }


def _spread(figures, form):
    """The median, and in brackets the least and the most."""
    median, least, most = (form(figures[name]) for name in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def _count(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _milliseconds(value):
    return f"{value * 1000:.3f}"


def _mib(kib):
    return f"{kib / 1024:.1f}"


def _bytes(size):
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


def _lines(result):
    names = result["workers"]
    rates = _rates(result)
    heading = [LABELS[name] for name in names]
    yield "# Workers"
    yield ""
    yield "<!-- Made by ./run bench worker; docs/benchmarks.md tells how to read it. -->"
    yield ""
    yield from origin(result)
    rounds = len(next(iter(rates.values()))["samples"])
    yield f"Medians of {rounds} rounds; in brackets the least and the most."
    yield ""
    yield "![Jobs a second, by number of workers](worker.svg)"
    yield ""
    yield "## Jobs a second of one worker, by payload"
    yield ""
    yield from table(
        ["payload", *heading],
        (
            [_bytes(size), *(_spread(rates[name, size, 1], _count) for name in names)]
            for size in _values(rates, 1)
        ),
    )
    yield "## Jobs a second of several workers, 10 B"
    yield ""
    yield from table(
        ["workers", *heading],
        (
            [str(fleet), *(_spread(rates[name, 10, fleet], _count) for name in names)]
            for fleet in _values(rates, 2)
        ),
    )
    yield "## One worker, otherwise"
    yield ""
    yield "Round trips of foreground jobs one after the other, 10 B; start until the job server knows"
    yield "the worker; memory before the first job."
    yield ""
    rows = (
        ("round trip, median (ms)", "latency", "p50", _milliseconds),
        ("round trip, 99 % (ms)", "latency", "p99", _milliseconds),
        ("start (ms)", "start", "seconds", lambda seconds: f"{seconds * 1000:.0f}"),
        ("RSS (MiB)", "start", "rss", _mib),
        ("PSS (MiB)", "start", "pss", _mib),
    )
    yield from table(
        ["", *heading],
        (
            [title, *(_spread(result[part][name][figure], form) for name in names)]
            for title, part, figure, form in rows
        ),
    )
    yield from targets(_targets(result, rates))


def _values(rates, position):
    return sorted({case[position] for case in rates})


def _targets(result, rates):
    for other, least in (("c", 1.0), ("php", 1.0), ("pygearman", 2.0)):
        ratio = rates["ours", 10, 1]["median"] / rates[other, 10, 1]["median"]
        target = f"10 B jobs a second: at least {least:g} times {LABELS[other]}"
        yield target, f"{ratio:.2f} times", ratio >= least
    p99 = {name: result["latency"][name]["p99"]["median"] for name in ("ours", "c")}
    ratio = p99["ours"] / p99["c"]
    yield "Round trip, 99 %: at most 1.2 times C's", f"{ratio:.2f} times", ratio <= 1.2
    rss = {name: result["start"][name]["rss"]["median"] for name in ("ours", "php")}
    yield (
        "RSS of an idle worker: at most that of php/worker.php",
        f"{_mib(rss['ours'])} of {_mib(rss['php'])} MiB",
        rss["ours"] <= rss["php"],
    )


# --- The plot ---------------------------------------------------------------------------

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 150, 40, 50


def svg(result):
    """Return jobs a second over the number of workers; bars show the spread."""
    rates = _rates(result)
    fleets = _values(rates, 2)
    cases = [(name, [rates[name, 10, fleet] for fleet in fleets]) for name in result["workers"]]
    most = max(figures["most"] for _name, points in cases for figures in points)
    step = _step(most)
    steps = range(math.ceil(most / step) + 1)

    def x(fleet):
        share = fleets.index(fleet) / max(1, len(fleets) - 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(rate):
        return HEIGHT - BOTTOM - rate / (step * steps[-1]) * (HEIGHT - TOP - BOTTOM)

    end = WIDTH - RIGHT
    parts = [text(LEFT, 22, "Jobs a second over workers at once, payload 10 B")]
    for count in steps:
        at = y(count * step)
        parts.append(line((LEFT, at), (end, at), 'stroke="#d0d7de"'))
        parts.append(text(LEFT - 8, at + 4, f"{count * step:,}", 'text-anchor="end"'))
    for fleet in fleets:
        parts.append(text(x(fleet), HEIGHT - BOTTOM + 20, fleet, 'text-anchor="middle"'))
    parts.append(text((LEFT + end) / 2, HEIGHT - 10, "workers", 'text-anchor="middle"'))
    labels = _apart([(y(points[-1]["median"]) + 4, name) for name, points in cases])
    for name, points in cases:
        colour = COLOURS[name]
        for fleet, figures in zip(fleets, points):
            ends = (x(fleet), y(figures["least"])), (x(fleet), y(figures["most"]))
            parts.append(line(*ends, f'stroke="{colour}"'))
        medians = [(x(fleet), y(figures["median"])) for fleet, figures in zip(fleets, points)]
        parts.extend(curve(medians, colour))
        parts.append(text(end + 8, labels[name], LABELS[name], f'fill="{colour}"'))
    return document(WIDTH, HEIGHT, parts)


def _step(most):
    """Return the round number of which six are enough."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if 6 * factor * power >= most:
                return factor * power
        power *= 10


def _apart(places, distance=16):
    """Return {name: place} of (place, name), moved so far that labels do not overlap."""
    moved = {}
    last = float("inf")
    for place, name in sorted(places, reverse=True):
        last = moved[name] = min(place, last - distance)
    return moved


if __name__ == "__main__":
    results = Path(__file__).resolve().parent / "results"
    sys.exit(write(json.loads((results / "worker.json").read_text()), results))
