# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tables and the plot of ./run bench worker from its figures."""

import json
import math
import sys
from pathlib import Path

from markup import curve, line, origin, table, targets, text
from markup import svg as document

LABELS = {
    "ours": "gearvisor worker",
    "facts": "with facts and store",
    "ahead": "gearvisor worker --prefetch 2",
    "c": "C, libgearman",
    "php": "php/worker.php",
    "pygearman": "pygearman",
    "gear": "gear",
}
COLOURS = {
    "ours": "#1a7f37",
    "facts": "#57606a",
    "ahead": "#4ac26b",
    "c": "#0969da",
    "php": "#8250df",
    "pygearman": "#9a6700",
    "gear": "#cf222e",
}


LOADS = {"idle": "all cores free", "busy": "one core kept busy"}

# Times C's jobs per second, by workers at once; times C's processor time per job.
RATES = {
    "ahead": {1: 1.2, 2: 1.0, 4: 1.0, 8: 0.95},
    "ours": {1: 0.8, 2: 0.85, 4: 0.85, 8: 0.85},
}
TIMES = {"ahead": 1.3, "ours": 1.6}


def write(result, directory):
    (directory / "worker.md").write_text("\n".join(_lines(result)))
    (directory / "worker.svg").write_text(svg(result))


def _rates(result, load="idle", figure="per_second"):
    return {
        (case["worker"], case["bytes"], case["at_once"]): case[figure]
        for case in result["rates"]
        if case["load"] == load
    }


def _latencies(result, load):
    return {case["worker"]: case for case in result["latency"] if case["load"] == load}


def _spread(figures, form):
    """The median, and in brackets the least and the most."""
    median, least, most = (form(figures[name]) for name in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def _count(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _microseconds(value):
    return f"{value * 1e6:.0f}"


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
    yield "<!-- Made by ./run bench worker; docs/benchmarks.md explains it. -->"
    yield ""
    yield from origin(result)
    rounds = len(next(iter(rates.values()))["samples"])
    yield f"Medians of {rounds} rounds; in brackets the least and the most."
    yield ""
    yield "![Jobs per second, by number of workers](worker.svg)"
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
    for load, title in LOADS.items():
        some = _rates(result, load)
        yield f"## 10 B jobs, {title}"
        yield ""
        for figure, what, form in (
            ("per_second", "jobs per second", _count),
            ("worker_time", "processor time of the workers per job (µs)", _microseconds),
            ("gearmand_time", "processor time of gearmand per job (µs)", _microseconds),
        ):
            values = _rates(result, load, figure)
            yield from table(
                [f"workers: {what}", *heading],
                (
                    [str(fleet), *(_spread(values[name, 10, fleet], form) for name in names)]
                    for fleet in _values(some, 2)
                ),
            )
        yield "Round trips of foreground jobs one after the other, one worker:"
        yield ""
        latencies = _latencies(result, load)
        yield from table(
            ["", *heading],
            (
                [what, *(_spread(latencies[name][figure], _milliseconds) for name in names)]
                for what, figure in (("median (ms)", "p50"), ("99 % (ms)", "p99"))
            ),
        )
    yield "## One worker at rest"
    yield ""
    yield "Start until the job server knows the worker; memory before the first job."
    yield ""
    rows = (
        ("start (ms)", "seconds", lambda seconds: f"{seconds * 1000:.0f}"),
        ("RSS (MiB)", "rss", _mib),
        ("PSS (MiB)", "pss", _mib),
    )
    yield from table(
        ["", *heading],
        (
            [title, *(_spread(result["start"][name][figure], form) for name in names)]
            for title, figure, form in rows
        ),
    )
    yield from targets(_targets(result))


def _values(rates, position):
    return sorted({case[position] for case in rates})


def _targets(result):
    """Each target has to hold with all cores free and with one kept busy."""
    for load, title in LOADS.items():
        rates = _rates(result, load)
        times = _rates(result, load, "worker_time")
        for name, goals in RATES.items():
            for fleet, least in goals.items():
                ratio = rates[name, 10, fleet]["median"] / rates["c", 10, fleet]["median"]
                target = (
                    f"{LABELS[name]}, {fleet} at once, {title}: at least {least:g} times C's rate"
                )
                yield target, f"{ratio:.2f} times", ratio >= least
        for name, most in TIMES.items():
            ratio = times[name, 10, 1]["median"] / times["c", 10, 1]["median"]
            target = f"{LABELS[name]}, processor time per job, {title}: at most {most:g} times C's"
            yield target, f"{ratio:.2f} times", ratio <= most
        facts = rates["facts", 10, 1]["median"] / rates["ours", 10, 1]["median"]
        target = f"{LABELS['facts']}, 1 at once, {title}: at least 0.95 times the rate without"
        yield target, f"{facts:.2f} times", facts >= 0.95
        latencies = _latencies(result, load)
        ratio = latencies["ours"]["p99"]["median"] / latencies["c"]["p99"]["median"]
        yield (
            f"Round trip, 99 %, {title}: at most 1.2 times C's",
            f"{ratio:.2f} times",
            ratio <= 1.2,
        )
    start = result["start"]["ours"]
    rss, seconds = start["rss"]["median"], start["seconds"]["median"]
    yield "RSS of an idle worker: at most 16 MiB", f"{_mib(rss)} MiB", rss <= 16 * 1024
    more = result["start"]["facts"]["rss"]["median"] - rss
    yield "RSS with facts and store: at most 1 MiB more", f"{_mib(more)} MiB", more <= 1024
    yield "Start: at most 60 ms", f"{seconds * 1000:.0f} ms", seconds <= 0.06


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
    results = Path(__file__).resolve().parent
    sys.exit(write(json.loads((results / "worker.json").read_text()), results))
