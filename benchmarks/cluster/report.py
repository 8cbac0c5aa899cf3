# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tables of ./run bench cluster from its figures."""

import statistics

from markup import duration, origin, table


def write(result, directory):
    (directory / "cluster.md").write_text("\n".join(_lines(result)))


def _lines(result):
    yield "# A cluster"
    yield ""
    yield "<!-- Made by ./run bench cluster; docs/benchmarks.md explains it. -->"
    yield ""
    yield from origin(result)
    yield "All hosts are containers on this one machine, and share its processors."
    yield ""
    yield "## site.yml by number of hosts"
    yield ""
    yield from table(
        ["hosts", "of them job servers", "first run", "nothing changed"],
        (
            [
                str(site["hosts"]),
                str(site["job_servers"]),
                duration(site["first"]),
                duration(statistics.median(site["unchanged"])),
            ]
            for site in result["site"]
        ),
    )
    if result.get("twins"):
        yield f"## {result['many']} hosts, nothing changed"
        yield ""
        yield "Twins of one converged host, job server and workers each; processor time per host in seconds,"
        yield "here and on the host. All share this machine's processors."
        yield ""
        yield from table(
            ["forks, strategy", "whole run", "here, per host", "on the host"],
            (
                [
                    f"{twin['forks']}, {twin['strategy']}",
                    duration(twin["seconds"]),
                    f"{twin['here']:.2f}",
                    f"{twin['on_host']:.2f}",
                ]
                for twin in result["twins"]
            ),
        )
    if not result["throughput"]:
        return
    yield "## Jobs a second"
    yield ""
    yield f"{result['jobs']} background jobs of 10 bytes that do nothing, through the tunnel, queued in"
    yield "memory before: medians, with the least and the most."
    yield ""
    servers = sorted({sample["job_servers"] for sample in result["throughput"]})
    yield from table(
        ["workers", *(f"{number} job server{'s'[: number > 1]}" for number in servers)],
        (
            [str(workers), *(_rates(result, number, workers) for number in servers)]
            for workers in sorted({sample["workers"] for sample in result["throughput"]})
        ),
    )
    queued = statistics.median(sample["queued"] for sample in result["throughput"])
    yield f"One client queued {queued:.0f} jobs a second, one after the other."
    yield ""


def _rates(result, servers, workers):
    rates = [
        sample["done"]
        for sample in result["throughput"]
        if (sample["job_servers"], sample["workers"]) == (servers, workers)
    ]
    return f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
