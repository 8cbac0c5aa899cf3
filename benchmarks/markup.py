# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reports of the benchmarks are made of: Markdown tables and SVG."""

YES_OR_NO = {True: "yes", False: "no", None: "-"}


def origin(result):
    """Yield the lines that state where the figures are from, and what else the machine did."""
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    yield f"`{result['command']}`, {result['date']}. {versions}."
    load = f"{result['load_before'][0]:.1f} before and {result['load_after'][0]:.1f} after"
    yield f"Load of the machine, one minute's: {load}."
    yield ""


def table(heading, rows):
    """Yield the lines of a Markdown table; all columns but the first are numbers."""
    yield "| " + " | ".join(heading) + " |"
    yield "| --- |" + " ---: |" * (len(heading) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def duration(seconds):
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def targets(rows):
    """Yield the table of (target, what was measured, whether it is met or None)."""
    yield "## Targets"
    yield ""
    yield from table(
        ["target", "measured", "met"],
        ([target, measured, YES_OR_NO[met]] for target, measured, met in rows),
    )


def svg(width, height, parts):
    """Return the SVG document of elements made by text(), line() and the like."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x, y, content, more=""):
    return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{content}</text>'


def line(start, end, more):
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" {more}/>'


def curve(points, colour):
    """Yield a line through the points, with a dot on each."""
    path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3.5" fill="{colour}"/>'
