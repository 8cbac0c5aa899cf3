# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tables and the plot of ./run bench converge from its figures."""

import json
import math
import statistics
import sys
from pathlib import Path

from markup import curve, duration, line, origin, table, targets, text
from markup import svg as document

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


def _case(case, ours):
    if case is None:
        return "not measured"
    text = duration(case["median"])
    if case is not ours:
        text += f" ({case['median'] / ours['median']:.1f} x)"
    return text + (" *" if len(case["seconds"]) == 1 else "")


def markdown(result):
    return "\n".join(_lines(result))


def _lines(result):
    cases = _by_case(result)
    yield "# Converging a fleet"
    yield ""
    yield "<!-- Made by ./run bench converge; docs/benchmarks.md explains it. -->"
    yield ""
    yield from origin(result)
    yield "Wall time of `ansible-playbook`, the median of several runs; with * one run. In brackets,"
    yield f"times ours. An empty play (no facts, one ping) took {duration(result['empty']['median'])}."
    yield ""
    yield "![Nothing changed, by number of programs](converge.svg)"
    yield ""
    for phase, title in PHASES.items():
        yield f"## {title}"
        yield ""
        yield from table(
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
    yield from table(
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
    yield from table(
        ["step", "processes", "wall time", "interrupted", "memory", "processor time"],
        (
            [
                step["step"],
                str(step["processes"]),
                duration(step["seconds"]),
                str(step["interrupted"]),
                f"{step['memory_mib']} MiB",
                f"{step['processor_seconds']} s",
            ]
            for step in result["many"]
        ),
    )
    yield "## The first run of site.yml"
    yield ""
    first = result["first_run"]
    yield f"{duration(first['median']['site'])}; `apt-get update && apt-get install` of the same"
    yield f"{first['packages']} packages on another fresh host took {duration(first['median']['apt'])}:"
    yield f"{first['ratio']:.2f} times that. Round by round: {_shown(first, 'apt')} times."
    yield "`gearman_worker_stable` was 0: by default it adds its 5 s."
    yield ""
    yield "## A whole site.yml with nothing to change"
    yield ""
    site = result["site"]
    yield f"{duration(site['median']['site'])}; an empty play without facts on the same host took"
    yield f"{duration(site['median']['empty'])}: {site['ratio']:.2f} times that. Round by round, one after the"
    yield f"other: {_shown(site, 'empty')} times. By task, from 0.01 s:"
    yield ""
    yield from table(
        ["task", "median"],
        ([task, duration(spent)] for task, spent in site["tasks"].items() if spent >= 0.01),
    )
    yield from targets(_targets(result, cases))


def _by_round(times, other):
    """Return the ratios round by round: the load may differ between rounds."""
    return [whole / part for whole, part in zip(times["seconds"]["site"], times["seconds"][other])]


def _shown(times, other):
    return ", ".join(f"{ratio:.2f}" for ratio in _by_round(times, other))


def _larger(times, other):
    """Return the larger of two fair readings: the medians' ratio, and the median of the ratios."""
    return max(times["ratio"], statistics.median(_by_round(times, other)))


def _targets(result, cases):
    most, least = max(result["sizes"]), min(result["sizes"])
    ours = cases["ours", most, "unchanged"]["median"]

    ratio = ours / cases["ours", least, "unchanged"]["median"]
    target = f"Nothing changed, {most} programs: at most 1.5 times {least} program"
    yield target, f"{ratio:.2f} times", ratio <= 1.5
    usual = cases.get(("usual", most, "unchanged"))
    ratio = usual["median"] / ours if usual else None
    target = f"Nothing changed, {most} programs: 50 times faster than the usual composition"
    yield target, f"{ratio:.0f} times" if usual else "not measured", ratio and ratio >= 50
    interrupted = cases["ours", most, "one"]["interrupted"]
    yield f"One of {most} changed: 1 interrupted", str(interrupted), interrupted == 1
    ratio = _larger(result["first_run"], "apt")
    yield "First run of site.yml: at most 1.6 times apt alone", f"{ratio:.2f} times", ratio <= 1.6
    ratio = _larger(result["site"], "empty")
    target = "Nothing changed, site.yml: at most 2.5 times an empty play"
    yield target, f"{ratio:.2f} times", ratio <= 2.5
    limits = {"first apply": 10, "nothing changed": 1.5, "scaled up": 4}
    for step in result["many"]:
        if step["step"] in limits:
            limit, seconds = limits[step["step"]], step["seconds"]
            target = f"{step['processes']} processes, {step['step']}: at most {limit} s"
            yield target, duration(seconds), seconds <= limit
    memory = max(step["memory_mib"] for step in result["many"])
    yield "Memory of the module there: at most 40 MiB", f"{memory} MiB", memory <= 40


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

    end = WIDTH - RIGHT
    parts = [text(LEFT, 22, "Nothing changed: seconds over programs, both logarithmic")]
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
        parts.extend(curve([(x(size), y(seconds)) for size, seconds in points], colour))
        size, seconds = points[-1]
        label = f"{VARIANTS[variant]}"
        parts.append(text(end + 8, y(seconds) + 1, label, f'fill="{colour}"'))
    return document(WIDTH, HEIGHT, parts)


if __name__ == "__main__":
    results = Path(__file__).resolve().parent
    sys.exit(write(json.loads((results / "converge.json").read_text()), results))
