# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page: a view as HTML that works without JavaScript. Pure.

It carries its style and script as text in this module, so that they travel with the package as any
other module (docs/decisions/0016). All untrusted names are escaped twice: control characters
for people, then the rest for HTML.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence

from . import __version__, diagnosis, summary
from .diagnosis import duration
from .escape import escaped
from .observe import View, Worker

ROWS = 200  # of a table, at most
_NAME = 60  # characters of a name

# Nothing from other hosts, nothing inline, no forms, in no other page's frame.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

STYLE = """\
:root { color-scheme: light dark; --text: #1b1f24; --quiet: #59636e; --line: #d1d9e0;
  --back: #fff; --soft: #f6f8fa; --bad: #b42318; --warn: #7a4b00; --note: #0550ae;
  --good: #116329; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --quiet: #9198a1; --line: #3d444d;
  --back: #0d1117; --soft: #151b23; --bad: #ff9a92; --warn: #e3b341; --note: #79c0ff;
  --good: #56d364; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: var(--text); background: var(--back);
  font: 15px/1.5 system-ui, sans-serif }
header { display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline }
h1 { font-size: 1.3rem; margin: 0 }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
.quiet { color: var(--quiet) }
ul.findings { list-style: none; margin: 1rem 0 0; padding: 0; border: 1px solid var(--line);
  border-radius: 6px; overflow: hidden }
ul.findings li { padding: .5rem .8rem; border-left: 4px solid; overflow-wrap: anywhere }
ul.findings li + li { border-top: 1px solid var(--line) }
.critical { color: var(--bad) } .warning { color: var(--warn) }
.notice { color: var(--note) } .ok { color: var(--good) }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th { font-weight: 600; color: var(--quiet); background: var(--soft) }
td.number, th.number { text-align: right }
footer { margin-top: 2rem }
"""

SCRIPT = """\
"use strict";
const main = document.querySelector("main");
const state = document.getElementById("state");
async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/", { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...fresh.querySelector("main").childNodes);
      state.textContent = "live";
    } catch (error) {
      state.textContent = "not live: " + error.message;
    }
  }
  setTimeout(refresh, 5000);
}
state.textContent = "live";
setTimeout(refresh, 5000);
"""

# The heading, and the rows.
_Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def page(view: View, certificates: Mapping[str, float], host: str) -> str:
    """Return the whole page."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(view.now))
    findings = "".join(
        f'<li class="{each.severity}"><strong>{each.severity}</strong>'
        f" {html.escape(each.text)}</li>"
        for each in diagnosis.diagnose(view)
    )
    sections = "".join(
        _section(title, table)
        for title, table in (
            ("Functions", _functions(view)),
            ("Workers of this host", _workers(view)),
            ("Newest failed jobs", _failures(view)),
            ("Job servers", _servers(view)),
            ("Certificates", _certificates(view, certificates)),
        )
    )
    number, size = view.failed
    failed = f"{number} failed jobs are kept on this host ({size / 2**20:.1f} MiB)"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Gearvisor on {_shown(host)}</title>"
        '<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/page.css">'
        '<script src="/page.js" defer></script></head><body><main>'
        f'<header><h1>Gearvisor on {_shown(host)}</h1><span class="quiet">{stamp}</span></header>'
        f'<ul class="findings">{findings}</ul>'
        f'<p class="quiet">{failed}; <code>gearvisor failed list</code> shows them.</p>'
        f"{sections}</main>"
        f'<footer class="quiet">Gearvisor {__version__} · <span id="state">reload for news</span>'
        ' · <a href="/metrics">metrics</a></footer></body></html>\n'
    )


ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<circle cx="8" cy="8" r="6" fill="none" stroke="#2da44e" stroke-width="3"/></svg>\n'
)


def _shown(text: str) -> str:
    return html.escape(escaped(text, _NAME))


def _section(title: str, table: _Table) -> str:
    heading, rows = table
    if not rows:
        return f'<h2>{title}</h2><p class="quiet">none</p>'
    numbers = [all(_is_number(row[column]) for row in rows) for column in range(len(heading))]
    numbers[0] = False  # a name, whatever it begins with
    kinds = [' class="number"' if number else "" for number in numbers]
    head = "".join(f'<th scope="col"{kind}>{each}</th>' for each, kind in zip(heading, kinds))
    body = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{_shown(cell)}</td>" for cell, kind in zip(row, kinds))
        + "</tr>"
        for row in rows[:ROWS]
    )
    more = f'<p class="quiet">and {len(rows) - ROWS} more</p>' if len(rows) > ROWS else ""
    return (
        f'<h2>{title}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{more}"
    )


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell == "-"


def _functions(view: View) -> _Table:
    rows = [
        (
            row.name,
            str(row.waiting),
            str(row.running),
            str(row.workers),
            f"{row.rate:.1f}",
            "-" if row.wait_mean is None else f"{row.wait_mean:.2f} s",
            "-" if row.wait_max is None else f"{row.wait_max:.2f} s",
            str(row.failed),
            "paused"
            if row.paused_since is not None
            else ("served" if row.workers else "no worker"),
        )
        for row in summary.functions(view)
    ]
    rows.sort(key=lambda row: (-int(row[1]), -int(row[2]), row[0]))
    heading = "function waiting running workers jobs/s mean_wait longest_wait failed state"
    return [each.replace("_", " ") for each in heading.split()], rows


def _workers(view: View) -> _Table:
    failures = {each.name: len(each.failures) for each in view.processes or ()}

    def order(worker: Worker) -> tuple[float, str]:
        job = worker.facts["job"]
        return (job["since"] if job else float("inf"), worker.name)

    rows = []
    for each in sorted(view.workers, key=order):
        job, rss = each.facts["job"], each.facts["rss"]
        rows.append(
            (
                each.name,
                each.user,
                "runs" if each.alive else ("died in its job" if job else "gone"),
                job["function"] if job else "",
                duration(view.now - job["since"]) if job else "-",
                "-" if rss is None else f"{rss:.0f}",
                str(each.facts["done"]),
                str(each.facts["failed"]),
                str(failures.get(each.name, "-")),
                each.facts["release"] or "",
            )
        )
    heading = "worker user state job since MiB done failed restarts release"
    return heading.split(), rows


def _failures(view: View) -> _Table:
    rows = [
        (
            each.id,
            f"{duration(view.now - each.failed)} ago",
            each.function,
            each.user,
            str(each.times),
            each.error,
        )
        for each in view.failures
    ]
    return ["id", "failed", "function", "user", "times", "error"], rows


def _servers(view: View) -> _Table:
    rows = [
        (
            each.address,
            "up" if each.up else f"down: {each.error}",
            each.version,
            "-" if each.oldest is None else duration(each.oldest),
            f"{each.seconds * 1000:.0f} ms",
        )
        for each in view.servers
    ]
    return ["job server", "state", "version", "oldest job", "answered in"], rows


def _certificates(view: View, certificates: Mapping[str, float]) -> _Table:
    rows = [
        (name, f"{(until - view.now) / 86400:.0f} days left")
        for name, until in certificates.items()
    ]
    return ["certificate", "valid for"], rows
