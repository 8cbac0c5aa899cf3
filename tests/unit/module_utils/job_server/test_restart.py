from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import (
    FunctionStatus,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import restart

JOBS = {"resize": FunctionStatus(3, 1, 2), "mail": FunctionStatus(0, 1, 1)}


@pytest.mark.parametrize(
    ("way", "jobs", "kept", "expected"),
    [
        ("auto", {}, False, restart.Decision("drain", {})),
        ("auto", {}, True, restart.Decision("restart", {})),
        ("auto", JOBS, True, restart.Decision("restart", {})),
        ("drain", JOBS, False, restart.Decision("drain", {})),
        ("drain", JOBS, True, restart.Decision("drain", {})),
        ("force", JOBS, False, restart.Decision("restart", JOBS)),
        ("force", JOBS, True, restart.Decision("restart", {})),
        ("force", None, False, restart.Decision("restart", {})),
        ("never", JOBS, False, restart.Decision("leave", {})),
        ("never", None, False, restart.Decision("leave", {})),
    ],
)
def test_decide(way, jobs, kept, expected):
    assert restart.decide(way, jobs, kept) == expected


def test_jobs_are_not_lost_unasked():
    with pytest.raises(InvalidOption) as caught:
        restart.decide("auto", JOBS, False)
    told = str(caught.value)
    assert "would lose 5 jobs: resize (3 queued, 1 running), mail (0 queued, 1 running)" in told
    assert all(way in told for way in ("drain", "force", "never"))
    assert caught.value.details["lost"]["resize"] == {"queued": 3, "running": 1}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("way", ["auto", "drain"])
def test_an_unknown_number_of_jobs_is_not_lost_unasked(way, kept):
    with pytest.raises(InvalidOption, match="does not answer"):
        restart.decide(way, None, kept)


def test_a_queue_that_cannot_be_closed_is_not_drained():
    assert restart.decide("auto", {}, False, can_drain=False) == restart.Decision("restart", {})
    with pytest.raises(InvalidOption, match="refuses the delayed jobs"):
        restart.decide("drain", {}, False, can_drain=False)


def test_jobs_text_stays_short():
    jobs = {f"f{number:03}": FunctionStatus(number, 0, 0) for number in range(1, 101)}
    text = restart.jobs_text(jobs)
    assert text.startswith("5050 jobs: f100 (100 queued, 0 running), f099")
    assert text.endswith("and 90 more functions")
    assert restart.jobs_text({"a": FunctionStatus(1, 0, 0)}).startswith("1 job: ")
