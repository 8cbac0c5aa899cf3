#!/usr/bin/env python3
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws what a bad release does to a fleet over time: plot.py TIMELINE.json >docs/deploy.svg.

The scenario's test writes the timeline of each release into Molecule's directory of the scenario.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from markup import line, svg, text  # noqa: E402

WIDTH, HEIGHT, LEFT, RIGHT = 720, 420, 70, 20
# Per plot: its title, its colour, its top and its height.
WORKERS, ANSWERED, FAILED = ("#57606a", 40, 70), ("#1a7f37", 150, 100), ("#cf222e", 290, 80)


def rates(rows, column):
    """Yield (seconds, number a second) of a column that only grows."""
    for (before, *old), (now, *new) in zip(rows, rows[1:]):
        yield now, (new[column] - old[column]) / (now - before)


def plot(title, points, last, look):
    """Yield one plot: a line of (seconds, value) over time, which starts with the run."""
    colour, top, height = look
    most = max(value for _at, value in points) or 1
    bottom = top + height

    def place(at, value):
        x = LEFT + (WIDTH - LEFT - RIGHT) * at / last
        return f"{x:.1f},{bottom - height * value / most:.1f}"

    yield text(LEFT, top - 10, title)
    yield line((LEFT, bottom), (WIDTH - RIGHT, bottom), 'stroke="#8c959f"')
    yield text(LEFT - 8, top + 10, f"{most:.0f}", 'text-anchor="end"')
    yield text(LEFT - 8, bottom, "0", 'text-anchor="end"')
    path = " ".join(place(*point) for point in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def main():
    (file,) = sys.argv[1:]
    rows = json.loads(Path(file).read_text())
    last = rows[-1][0]
    # What came in the first and the last half second is not a whole one.
    parts = [
        *plot("Python workers that run", [(row[0], row[3]) for row in rows], last, WORKERS),
        *plot("jobs answered a second", list(rates(rows, 0))[1:-1], last, ANSWERED),
        *plot("jobs failed a second", list(rates(rows, 1))[1:-1], last, FAILED),
    ]
    for second in range(0, int(last) + 1, 5):
        x = LEFT + (WIDTH - LEFT - RIGHT) * second / last
        parts.append(text(x, HEIGHT - 28, str(second), 'text-anchor="middle"'))
    parts.append(text(WIDTH / 2, HEIGHT - 8, "seconds since the run began", 'text-anchor="middle"'))
    print(svg(WIDTH, HEIGHT, parts), end="")


if __name__ == "__main__":
    main()
