# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A view of a host and its job servers in Prometheus' text format. Pure.

docs/monitoring.md lists the metrics. Untrusted names become labels: any text is one, but for
bytes that are not UTF-8, which are escaped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Callable

from . import __version__
from .admin_replies import FunctionStatus
from .diagnosis import CRITICAL, NOTICE, WARNING, diagnose
from .escape import escaped
from .observe import Server, View

MAX_LABEL = 200  # characters of a label's value
MAX_FUNCTIONS = 500  # of a job server; those with the most jobs

# As Supervisor numbers its states: supervisor/states.py.
STATES = {
    "STOPPED": 0, "STARTING": 10, "RUNNING": 20, "BACKOFF": 30, "STOPPING": 40, "EXITED": 100,
    "FATAL": 200, "UNKNOWN": 1000,
}  # fmt: skip

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

_Labels = Mapping[str, str]


class _Text:
    """The format, metric by metric: each has its help and type once, then its samples."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def add(
        self, name: str, kind: str, text: str, samples: Iterable[tuple[_Labels, float]]
    ) -> None:
        """Add a metric, unless it has no samples."""
        lines = []
        for labels, value in samples:
            pairs = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
            lines.append(
                f"{name}{{{pairs}}} {float(value)!r}\n" if pairs else f"{name} {float(value)!r}\n"
            )
        if lines:
            self.parts.append(f"# HELP {name} {text}\n# TYPE {name} {kind}\n{''.join(lines)}")


def _label(value: str) -> str:
    if len(value) > MAX_LABEL or (not value.isprintable() and _has_surrogates(value)):
        digest = hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:8]
        value = f"{escaped(value, MAX_LABEL)} #{digest}"  # so that no two names fall together
    return value.translate(_ESCAPES)


def _has_surrogates(value: str) -> bool:
    return any("\ud800" <= each <= "\udfff" for each in value)


def text(view: View, certificates: Mapping[str, float], seconds: float) -> str:
    """Return all metrics.

    certificates: until when each is valid, by name. seconds: that it took to gather the view.
    """
    out = _Text()
    _job_servers(out, view.servers)
    _supervisor(out, view)
    _workers(out, view)
    _functions(out, view)
    out.add("gearvisor_failed_jobs", "gauge", "Failed jobs that are kept.", [({}, view.failed[0])])
    out.add("gearvisor_failed_jobs_bytes", "gauge", "Size of their files.", [({}, view.failed[1])])
    out.add(
        "gearvisor_certificate_expiry_timestamp_seconds",
        "gauge",
        "Until when a certificate of this host is valid.",
        [({"certificate": name}, until) for name, until in certificates.items()],
    )
    found = Counter(finding.severity for finding in diagnose(view))
    out.add(
        "gearvisor_findings",
        "gauge",
        "Lines of the diagnosis by severity.",
        [({"severity": each}, found[each]) for each in (CRITICAL, WARNING, NOTICE)],
    )
    out.add("gearvisor_exporter_seconds", "gauge", "Seconds that gathering took.", [({}, seconds)])
    out.add(
        "gearvisor_build_info", "gauge", "Version of Gearvisor.", [({"version": __version__}, 1)]
    )
    return "".join(out.parts)


def _job_servers(out: _Text, servers: Iterable[Server]) -> None:
    servers = list(servers)
    up = [each for each in servers if each.up]
    rows = [
        ({"server": each.address, "function": name}, each.functions[name])
        for each in up
        for name in _busiest(each)
    ]
    out.add(
        "gearman_up",
        "gauge",
        "Whether the job server answers.",
        [({"server": each.address}, each.up) for each in servers],
    )
    out.add(
        "gearman_version_info",
        "gauge",
        "Version of the job server.",
        [({"server": each.address, "version": each.version}, 1) for each in up],
    )
    counts: tuple[tuple[str, str, Callable[[FunctionStatus], int]], ...] = (
        ("gearman_jobs", "Jobs, waiting and running.", lambda row: row.queued + row.running),
        ("gearman_jobs_running", "Jobs that a worker has.", lambda row: row.running),
        ("gearman_jobs_waiting", "Jobs that wait.", lambda row: row.queued),
        ("gearman_workers", "Connected workers.", lambda row: row.workers),
    )
    for name, help_text, value in counts:
        out.add(name, "gauge", help_text, [(labels, value(row)) for labels, row in rows])
    out.add(
        "gearman_functions_left_out",
        "gauge",
        "Functions without metrics of their own, since there are too many.",
        [({"server": each.address}, max(0, len(each.functions) - MAX_FUNCTIONS)) for each in up],
    )
    out.add(
        "gearman_oldest_job_age_seconds",
        "gauge",
        "Age of the oldest job whose unique id shows it.",
        [({"server": each.address}, each.oldest) for each in up if each.oldest is not None],
    )
    out.add(
        "gearman_response_seconds",
        "gauge",
        "Seconds until the job server had answered.",
        [({"server": each.address}, each.seconds) for each in servers],
    )


def _busiest(server: Server) -> list[str]:
    if len(server.functions) <= MAX_FUNCTIONS:
        return list(server.functions)

    def order(name: str) -> tuple[int, int]:
        row = server.functions[name]
        return -row.queued - row.running, -row.workers

    return sorted(server.functions, key=order)[:MAX_FUNCTIONS]


def _supervisor(out: _Text, view: View) -> None:
    processes = [
        ({"program": each.program, "process": each.name}, each) for each in view.processes or ()
    ]
    out.add(
        "supervisor_up",
        "gauge",
        "Whether supervisord runs, with Gearvisor's event listener.",
        [({}, view.processes is not None)],
    )
    out.add(
        "supervisor_process_state",
        "gauge",
        "State as Supervisor numbers it: 20 is RUNNING, 30 BACKOFF, 200 FATAL.",
        [(labels, STATES.get(each.state, 1000)) for labels, each in processes],
    )
    out.add(
        "supervisor_process_start_time_seconds",
        "gauge",
        "When the process started.",
        [(labels, each.since) for labels, each in processes if each.state == "RUNNING"],
    )
    out.add(
        "supervisor_process_recent_failures",
        "gauge",
        "Unexpected ends in the last ten minutes.",
        [(labels, len(each.failures)) for labels, each in processes],
    )


def _workers(out: _Text, view: View) -> None:
    alive = [
        ({"user": each.user, "program": each.program, "process": each.name}, each)
        for each in view.workers
        if each.alive
    ]
    for name, kind, help_text, value in (
        ("start_time_seconds", "gauge", "When the worker started.", lambda f: f["started"]),
        ("resident_memory_bytes", "gauge", "Memory in RAM.", lambda f: (f["rss"] or 0) * 2**20),
        (
            "job_age_seconds",
            "gauge",
            "How long the job in progress has run; 0 without one.",
            lambda f: max(0.0, view.now - f["job"]["since"]) if f["job"] else 0.0,
        ),
        ("died_total", "counter", "Jobs that its predecessors died in.", lambda f: f["died"]),
        (
            "failed_jobs_unwritten_total",
            "counter",
            "Failed jobs that could not be kept.",
            lambda f: f["failed_jobs"]["unwritten"],
        ),
        (
            "connected_servers",
            "gauge",
            "Job servers that it is connected to.",
            lambda f: sum(map(bool, f["servers"].values())),
        ),
    ):
        samples = [(labels, value(each.facts)) for labels, each in alive]
        out.add(f"gearvisor_worker_{name}", kind, help_text, samples)
    tallies = [
        ({**labels, "function": name}, tally)
        for labels, each in alive
        for name, tally in each.facts["functions"].items()
    ]
    jobs = [
        ({**labels, "outcome": outcome}, tally[outcome])
        for labels, tally in tallies
        for outcome in ("done", "failed")
    ]
    out.add("gearvisor_worker_jobs_total", "counter", "Jobs since the worker started.", jobs)
    out.add(
        "gearvisor_worker_job_seconds_total",
        "counter",
        "Seconds spent in functions.",
        [(labels, tally["seconds"]) for labels, tally in tallies],
    )
    for name, key, help_text in (
        ("waits_total", "count", "Jobs whose wait is known."),
        ("wait_seconds_total", "seconds", "Sum of these waits."),
    ):
        out.add(
            f"gearvisor_worker_{name}",
            "counter",
            help_text,
            [(labels, tally["waits"][key]) for labels, tally in tallies],
        )
    dead = Counter(each.user for each in view.workers if not each.alive and each.facts["job"])
    out.add(
        "gearvisor_workers_died_in_job",
        "gauge",
        "Workers that died in a job and have not come back.",
        [({"user": user}, number) for user, number in dead.items()],
    )
    releases: dict[tuple[str, str], float] = {}
    for labels, each in alive:
        release = each.facts["release"]
        if release:
            pair = labels["program"], release
            releases[pair] = min(each.facts["started"], releases.get(pair, float("inf")))
    out.add(
        "gearvisor_release_start_time_seconds",
        "gauge",
        "Since when workers of a program run a release.",
        [
            ({"program": program, "release": release}, since)
            for (program, release), since in releases.items()
        ],
    )


def _functions(out: _Text, view: View) -> None:
    out.add(
        "gearvisor_function_paused_timestamp_seconds",
        "gauge",
        "Since when a function is paused on this host.",
        [({"function": name}, since) for name, since in view.paused.items()],
    )
