# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics as Prometheus reads them."""

from __future__ import annotations

import re

import pytest
from gearvisor import metrics
from gearvisor.observe import Process
from views import NOW, down, job, process, server, tally, view, worker

_NAME = r"[a-zA-Z_][a-zA-Z0-9_]*"
_SAMPLE = re.compile(rf'({_NAME})(?:\{{((?:{_NAME}="(?:[^"\\\n]|\\["\\n])*",?)*)\}})? (\S+)')
_LABEL = re.compile(rf'({_NAME})="((?:[^"\\\n]|\\["\\n])*)"')
_UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text):
    """Return {(name, labels): value}; every line has to be of the format, every series once."""
    assert text.endswith("\n")
    samples, kinds = {}, {}
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            assert (name in kinds) == (what == "TYPE") and rest
            kinds[name] = rest
            continue
        name, labels, value = _SAMPLE.fullmatch(line).groups()
        assert kinds[name] in ("gauge", "counter")
        assert name.endswith("_total") == (kinds[name] == "counter")
        pairs = frozenset(
            (key, re.sub(r"\\.", lambda found: _UNESCAPED[found.group()], text))
            for key, text in _LABEL.findall(labels or "")
        )
        assert (name, pairs) not in samples, "a series twice"
        samples[name, pairs] = float(value)
    return samples


def of(view, certificates=(), seconds=0.5):
    return parse(metrics.text(view, dict(certificates), seconds))


def value(samples, name, **labels):
    return samples[name, frozenset(labels.items())]


SEEN = view(
    server(resize=(40, 20, 20), oldest=360),
    down(),
    workers=[
        worker(job=job(since=NOW - 60), release="releases/7", died=2,
               functions={"resize": tally(9, 1, 3.5, (2, 3, 2))}),
        worker("mail_02", alive=False, job=job()),
    ],
    processes=[process(failures=2), process("mail_02", "FATAL")],
    paused={"mail": NOW - 60},
    failed=(3, 4096),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("gearman_up", {"server": "10.0.0.5:4730"}, 1),
        ("gearman_up", {"server": "10.0.0.6:4730"}, 0),
        ("gearman_version_info", {"server": "10.0.0.5:4730", "version": "1.1.21+ds"}, 1),
        ("gearman_jobs", {"server": "10.0.0.5:4730", "function": "resize"}, 60),
        ("gearman_jobs_running", {"server": "10.0.0.5:4730", "function": "resize"}, 20),
        ("gearman_jobs_waiting", {"server": "10.0.0.5:4730", "function": "resize"}, 40),
        ("gearman_workers", {"server": "10.0.0.5:4730", "function": "resize"}, 20),
        ("gearman_oldest_job_age_seconds", {"server": "10.0.0.5:4730"}, 360),
        ("supervisor_up", {}, 1),
        ("supervisor_process_state", {"program": "mail", "process": "mail_01"}, 20),
        ("supervisor_process_state", {"program": "mail", "process": "mail_02"}, 200),
        (
            "supervisor_process_start_time_seconds",
            {"program": "mail", "process": "mail_01"},
            NOW - 50,
        ),
        ("supervisor_process_recent_failures", {"program": "mail", "process": "mail_01"}, 2),
        ("gearvisor_failed_jobs", {}, 3),
        ("gearvisor_failed_jobs_bytes", {}, 4096),
        ("gearvisor_function_paused_timestamp_seconds", {"function": "mail"}, NOW - 60),
        ("gearvisor_workers_died_in_job", {"user": "mail"}, 1),
        (
            "gearvisor_release_start_time_seconds",
            {"program": "mail", "release": "releases/7"},
            NOW - 100,
        ),
        ("gearvisor_certificate_expiry_timestamp_seconds", {"certificate": "/a.pem"}, NOW + 1),
        ("gearvisor_findings", {"severity": "critical"}, 3),
        ("gearvisor_exporter_seconds", {}, 0.5),
    ],
)
def test_values(name, labels, expected):
    assert value(of(SEEN, {"/a.pem": NOW + 1}), name, **labels) == expected


def test_values_of_a_worker():
    samples = of(SEEN)
    labels = {"user": "mail", "program": "mail", "process": "mail_01"}
    assert value(samples, "gearvisor_worker_job_age_seconds", **labels) == 60
    assert value(samples, "gearvisor_worker_died_total", **labels) == 2
    assert value(samples, "gearvisor_worker_resident_memory_bytes", **labels) == 14 * 2**20
    labels["function"] = "resize"
    assert value(samples, "gearvisor_worker_jobs_total", outcome="failed", **labels) == 1
    assert value(samples, "gearvisor_worker_job_seconds_total", **labels) == 3.5
    assert value(samples, "gearvisor_worker_wait_seconds_total", **labels) == 3


def test_nothing_known_is_no_error():
    samples = of(view(down())._replace(processes=None))
    assert value(samples, "supervisor_up") == 0
    assert not [name for name, _ in samples if name.startswith("gearman_jobs")]


ODD = ["a\nb", 'quo"te', "back\\slash", "\\n", "\x1b[2J", "tab\t", "\udcff", "\\xff", "x" * 10**6,
       "x" * 999_999 + "y", "", "\u202e", "}", " 1"]  # fmt: skip


def test_names_of_strangers_are_labels_that_stay_apart():
    counts = {name: (number, 0, 0) for number, name in enumerate(ODD)}
    seen = view(
        server(**counts),
        workers=[worker(name, functions={name: tally(1)}, program=name) for name in ODD],
        processes=[Process(name, name, name, NOW) for name in ODD],
        paused=dict.fromkeys(ODD, NOW),
    )
    samples = of(seen)
    functions = [dict(labels)["function"] for name, labels in samples if name == "gearman_jobs"]
    assert len(functions) == len(ODD)
    assert {"a\nb", 'quo"te', "back\\slash", "\x1b[2J"} < set(functions)
    assert len(metrics.text(seen, {}, 0).encode()) < 200_000


def test_of_very_many_functions_the_busiest_are_shown():
    seen = view(server(**{f"f{number}": (number, 0, 0) for number in range(2000)}))
    samples = of(seen)
    shown = [dict(labels)["function"] for name, labels in samples if name == "gearman_jobs"]
    assert len(shown) == metrics.MAX_FUNCTIONS and "f1999" in shown and "f0" not in shown
    left_out = value(samples, "gearman_functions_left_out", server="10.0.0.5:4730")
    assert left_out == 2000 - metrics.MAX_FUNCTIONS
