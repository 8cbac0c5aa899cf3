# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tables and the plot of ./run bench converge from its figures."""

import json
import math
import statistics
import sys
from pathlib import Path

VARIANTS = {
    "ours": "supervisor_programs",
    "usual": "template + supervisorctl",
    "whole_restart": "template + restart",
}
COLOURS = {"ours": "#1a7f37", "usual": "#cf222e", "whole_restart": "#9a6700"}
PHASES = {"first": "First apply", "unchanged": "Nothing changed", "one": "One program changed"}


def write(result, directory):
    (directory / "converge.md").write_text(markdown(result))
    (directory / "converge.svg").write_text(svg(result))


def _by_case(result):
    return {(case["variant"], case["programs"], case["phase"]): case for case in result["converge"]}


def _table(heading, rows):
    yield "| " + " | ".join(heading) + " |"
    yield "| --- |" + " ---: |" * (len(heading) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def _seconds(value):
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _case(case, ours):
    if case is None:
        return "not measured"
    text = _seconds(case["median"])
    if case is not ours:
        text += f" ({case['median'] / ours['median']:.1f} x)"
    return text + (" *" if len(case["seconds"]) == 1 else "")


def markdown(result):
    return "\n".join(_lines(result))


def _lines(result):
    cases = _by_case(result)
    yield "# Converging a fleet"
    yield ""
    yield "<!-- Made by ./run bench converge; docs/benchmarks.md tells how to read it. -->"
    yield ""
    yield (
        f"`{result['command']}`, {result['date']}. "
        + ", ".join(f"{name} {value}" for name, value in result["versions"].items())
        + "."
    )
    load = f"{result['load_before'][0]:.1f} before and {result['load_after'][0]:.1f} after"
    yield f"Load of the machine, one minute's: {load}."
    yield ""
    yield "Wall time of `ansible-playbook`, the median of several runs; with * one run. In brackets,"
    yield f"times ours. An empty play (no facts, one ping) took {_seconds(result['empty']['median'])}."
    yield ""
    yield "![Nothing changed, by number of programs](converge.svg)"
    yield ""
    for phase, title in PHASES.items():
        yield f"## {title}"
        yield ""
        yield from _table(
            ["programs", *VARIANTS.values()],
            (
                [
                    str(size),
                    *(
                        _case(cases.get((variant, size, phase)), cases["ours", size, phase])
                        for variant in VARIANTS
                    ),
                ]
                for size in result["sizes"]
            ),
        )
    yield "## Worker processes interrupted when one program changed"
    yield ""
    yield "Processes whose pid changed, the one that had to be replaced included."
    yield ""
    yield from _table(
        ["programs", *VARIANTS.values()],
        (
            [
                str(size),
                *(
                    str(cases[variant, size, "one"]["interrupted"])
                    if (variant, size, "one") in cases
                    else "not measured"
                    for variant in VARIANTS
                ),
            ]
            for size in result["sizes"]
        ),
    )
    yield "## One program of many processes"
    yield ""
    yield "`supervisor_programs` alone. Memory is the largest resident size of the module or a child of"
    yield "it, on the host; processor time is theirs, too."
    yield ""
    yield from _table(
        ["step", "processes", "wall time", "interrupted", "memory", "processor time"],
        (
            [
                step["step"],
                str(step["processes"]),
                _seconds(step["seconds"]),
                str(step["interrupted"]),
                f"{step['memory_mib']} MiB",
                f"{step['processor_seconds']} s",
            ]
            for step in result["many"]
        ),
    )
    yield "## A whole site.yml with nothing to change"
    yield ""
    site = result["site"]
    yield f"{_seconds(site['median']['site'])}; an empty play with facts on the same host took"
    yield f"{_seconds(site['median']['empty'])}: {site['ratio']:.2f} times that. Round by round, one after the"
    yield f"other: {', '.join(f'{ratio:.2f}' for ratio in _site_ratios(site))} times. By task, from 0.01 s:"
    yield ""
    yield from _table(
        ["task", "median"],
        ([task, _seconds(spent)] for task, spent in site["tasks"].items() if spent >= 0.01),
    )
    yield "## Targets"
    yield ""
    yield from _table(["target", "measured", "met"], _targets(result, cases))


def _site_ratios(site):
    pairs = zip(site["seconds"]["site"], site["seconds"]["empty"])
    return [whole / empty for whole, empty in pairs]


def _targets(result, cases):
    most, least = max(result["sizes"]), min(result["sizes"])
    ours = cases["ours", most, "unchanged"]["median"]

    def row(target, value, met):
        return [target, value, {True: "yes", False: "no", None: "-"}[met]]

    ratio = ours / cases["ours", least, "unchanged"]["median"]
    text = f"Nothing changed, {most} programs: at most 1.5 times {least} program"
    yield row(text, f"{ratio:.2f} times", ratio <= 1.5)
    usual = cases.get(("usual", most, "unchanged"))
    ratio = usual["median"] / ours if usual else None
    text = f"Nothing changed, {most} programs: 50 times faster than the usual composition"
    yield row(text, f"{ratio:.0f} times" if usual else "not measured", ratio and ratio >= 50)
    interrupted = cases["ours", most, "one"]["interrupted"]
    yield row(f"One of {most} changed: 1 interrupted", str(interrupted), interrupted == 1)
    # The larger of two fair readings: the load may differ between rounds.
    site = result["site"]
    ratio = max(site["ratio"], statistics.median(_site_ratios(site)))
    yield row("site.yml: at most 3 times an empty play", f"{ratio:.2f} times", ratio <= 3)


# --- The plot ---------------------------------------------------------------------------

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50


def svg(result):
    """Return seconds over programs, both logarithmic, of the runs with nothing to change."""
    lines = {
        variant: sorted(
            (case["programs"], case["median"])
            for case in result["converge"]
            if case["variant"] == variant and case["phase"] == "unchanged"
        )
        for variant in VARIANTS
    }
    sizes = result["sizes"]
    empty = result["empty"]["median"]
    times = [empty, *(seconds for points in lines.values() for _size, seconds in points)]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))

    def x(size):
        share = math.log(size / min(sizes)) / (math.log(max(sizes) / min(sizes)) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(seconds):
        share = (math.log10(seconds) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def text(where_x, where_y, content, more=""):
        return f'<text x="{where_x:.0f}" y="{where_y:.0f}" {more}>{content}</text>'

    def line(start, end, more):
        (x1, y1), (x2, y2) = start, end
        return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" {more}/>'

    end = WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, "Nothing changed: seconds over programs, both logarithmic"),
    ]
    for power in range(low, high + 1):
        at = y(10**power)
        parts.append(line((LEFT, at), (end, at), 'stroke="#d0d7de"'))
        parts.append(text(LEFT - 8, at + 4, f"{10.0**power:g} s", 'text-anchor="end"'))
    for size in sizes:
        parts.append(text(x(size), HEIGHT - BOTTOM + 20, size, 'text-anchor="middle"'))
    parts.append(text((LEFT + end) / 2, HEIGHT - 10, "programs", 'text-anchor="middle"'))
    at = y(empty)
    parts.append(line((LEFT, at), (end, at), 'stroke="#57606a" stroke-dasharray="4"'))
    parts.append(text(end + 8, at + 4, "an empty play", 'fill="#57606a"'))
    for variant, points in lines.items():
        if not points:
            continue
        colour = COLOURS[variant]
        path = " ".join(f"{x(size):.0f},{y(seconds):.0f}" for size, seconds in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for size, seconds in points:
            parts.append(
                f'<circle cx="{x(size):.0f}" cy="{y(seconds):.0f}" r="3.5" fill="{colour}"/>'
            )
        size, seconds = points[-1]
        label = f"{VARIANTS[variant]}"
        parts.append(text(end + 8, y(seconds) + 1, label, f'fill="{colour}"'))
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    results = Path(__file__).resolve().parent / "results"
    sys.exit(write(json.loads((results / "converge.json").read_text()), results))
