from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import watch

SETTINGS = watch.Settings(seconds=30, jobs=20, max_failures=0.2, min_jobs=5)


def status(done=0, failed=0, pid=1, died=0, started=0.0, updated=100.0, rss=15.0, limit=None):
    return {
        "pid": pid,
        "done": done,
        "failed": failed,
        "died": died,
        "started": started,
        "updated": updated,
        "rss": rss,
        "limits": {"max_rss": limit},
    }


@pytest.mark.parametrize(
    ("done", "failed", "seconds", "expected"),
    [
        (0, 0, 1, None),
        (15, 0, 29, None),
        (20, 0, 3, (True, "")),
        (5, 0, 30, (True, "")),
        (4, 0, 30, (False, "")),
        (0, 0, 30, (False, "")),
        # What is allowed, and one more.
        (16, 4, 3, (True, "")),
        (15, 5, 3, (False, "5 of 20 jobs failed")),
        # All fail: known before the watch is over.
        (0, 4, 1, None),
        (0, 5, 1, (False, "5 of 5 jobs failed")),
        # Too few to conclude anything, even if all failed.
        (0, 4, 30, (False, "")),
        (7, 3, 30, (False, "3 of 10 jobs failed")),
    ],
)
def test_failures(done, failed, seconds, expected):
    watched = watch.Watch(SETTINGS, watch.Before(), batch=1, peers=0)
    watched.new.add("a", status(done, failed))
    verdict = watched.verdict(seconds, busy=False)
    if expected is None:
        assert verdict is None
    else:
        assert (verdict.jobs, verdict.failed, verdict.proved) == (
            done + failed,
            failed,
            expected[0],
        )
        assert verdict.problem.startswith(expected[1])
        assert bool(verdict.problem) is bool(expected[1])


def test_failures_before_are_the_baseline():
    earlier = watch.before([status(60, 40), status(70, 30)])
    assert earlier.failures == 0.35
    watched = watch.Watch(SETTINGS, earlier, batch=1, peers=0)
    watched.new.add("a", status(10, 10))
    assert watched.verdict(9, False) == (20, 10, True, "")


@pytest.mark.parametrize(
    ("peers", "their_jobs", "busy", "hung"),
    [
        (5, 25, True, True),
        (5, 25, False, True),
        (5, 24, True, False),
        # No jobs came meanwhile: an idle night.
        (5, 0, True, False),
        # Alone: by the former rate of 1 a second, if there is a job.
        (0, 0, True, True),
        (0, 0, False, False),
    ],
)
def test_hung(peers, their_jobs, busy, hung):
    earlier = watch.before([status(100)])
    watched = watch.Watch(SETTINGS, earlier, batch=1, peers=peers)
    watched.old.add("p", status(1000))
    watched.old.add("p", status(1000 + their_jobs))
    watched.new.add("a", status(0))
    assert watched.verdict(29, busy) is None
    verdict = watched.verdict(30, busy)
    assert verdict.problem.startswith("no job was finished in 30 s") is hung
    assert not verdict.proved


def test_a_job_that_kills_its_worker():
    watched = watch.Watch(SETTINGS, watch.Before(), batch=1, peers=0)
    watched.new.add("a", status(3, died=7))
    assert watched.verdict(1, False) is None
    watched.new.add("a", status(0, died=8, pid=2))
    assert watched.verdict(2, False).problem == "a process died in its job"


def test_counters_begin_again_with_each_process():
    tally = watch.Tally(from_zero=True)
    for done, pid in ((3, 1), (5, 1), (2, 2), (2, 2)):
        tally.add("a", status(done, 1, pid))
    assert (tally.jobs, tally.failed) == (9, 2)


@pytest.mark.parametrize(
    ("rss", "limit", "done", "former", "stops"),
    [
        (310, 200, 0, 15, True),
        (310, 200, 1, 15, True),
        # It grew, and the limit does what it is for.
        (310, 200, 40, 15, False),
        (150, 200, 0, 15, False),
        (310, None, 0, 15, False),
        # The release before was no better.
        (310, 200, 0, 305, False),
    ],
)
def test_more_memory_than_its_limit_from_the_start(rss, limit, done, former, stops):
    earlier = watch.before([status(rss=former, limit=200)])
    watched = watch.Watch(SETTINGS, earlier, batch=1, peers=0)
    watched.add("a", status(done, rss=rss, limit=limit))
    verdict = watched.verdict(1, False)
    problem = verdict.problem if verdict else ""
    wanted = "a process uses 310 MiB from its start, more than its limit of 200 MiB, so it leaves after each job"
    assert problem == (wanted if stops else "")
