# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that take too long, and workers that are asked to leave and do not come to it."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import pytest
from gearvisor import deadlines
from gearvisor.client import Client
from gearvisor.errors import JobException, JobTimeLimit
from gearvisor.worker import Worker


@pytest.fixture
def module(tmp_path):
    """Functions of a worker process whose grace is short, so that the tests are."""
    (tmp_path / "mine.py").write_text(
        "import itertools, time\n"
        "from gearvisor import deadlines\n"
        "deadlines.GRACE = 0.3\n"
        "deadlines.WATCH_EVERY = deadlines.WATCH_MARGIN = 0.2\n"
        "def fine(job):\n"
        "    return job.data\n"
        "def slow(job):\n"
        "    time.sleep(float(job.data))\n"
        "def stubborn(job):\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(0.05)\n"
        "        except Exception:\n"
        "            pass\n"
        "def in_c(job):\n"
        "    sum(itertools.repeat(0))\n"
        "def large(job):\n"
        "    return bytes(8_000_000)\n"
        "FUNCTIONS = {each.__name__: each for each in (fine, slow, stubborn, in_c, large)}\n"
    )


def test_a_job_over_its_time_gets_an_exception_and_the_worker_goes_on(job_server, command, module):
    command("worker", "--server", job_server.address, "--job-timeout", "0.3", "mine")
    with Client([job_server.address], timeout=60) as client:
        for _ in range(2):
            with pytest.raises(JobException, match=r"^JobTimeLimit: over the limit of 0\.3 s$"):
                client.submit("slow", b"20")
            assert client.submit("slow", b"0.1").data == b""


@pytest.mark.parametrize(
    ("function", "code", "says"),
    [
        ("stubborn", 75, b"a job went on for 0.3 s past the limit of 0.3 s"),
        ("in_c", 1, b"in in_c"),
    ],
)
def test_a_function_that_cannot_be_interrupted_is_ended_and_its_job_goes_to_another(
    wait_until, job_server, command, module, function, code, says
):
    process = command("worker", "--server", job_server.address, "--job-timeout", "0.3", "mine")
    with Client([job_server.address], timeout=60) as client:
        client.submit(function, background=True)
    _, log = process.communicate(timeout=60)
    assert process.returncode == code
    assert says in log
    wait_until(lambda: job_server.status(function) == (1, 0, 0), "the job waits for another")


def test_many_short_jobs_under_a_limit_and_idle_time_are_not_interrupted(
    job_server, command, module
):
    process = command("worker", "--server", job_server.address, "--job-timeout", "0.3", "mine")
    with Client([job_server.address], timeout=60) as client:
        for _ in range(300):
            client.submit("fine")
        time.sleep(2)  # longer than limit, grace and watch together
        client.submit("fine")
        for _ in range(12):
            client.submit("slow", b"0.1")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"stopped: 313 jobs done, 0 failed" in log


@pytest.mark.parametrize(("function", "code"), [("slow", 75), ("stubborn", 75), ("in_c", None)])
def test_stop_timeout_leaves_without_the_running_job(
    wait_until, job_server, command, module, function, code
):
    process = command("worker", "--server", job_server.address, "--stop-timeout", "0.4", "mine")
    with Client([job_server.address], timeout=60) as client:
        client.submit(function, b"20", background=True)
    wait_until(lambda: job_server.status(function)[1] == 1, "the job runs")
    process.send_signal(signal.SIGTERM)
    if code is None:  # a signal is not seen in C code: only the kernel's SIGKILL helps
        time.sleep(1)
        assert process.poll() is None
        return
    started = time.monotonic()
    _, log = process.communicate(timeout=30)
    assert 0.2 < time.monotonic() - started < 15
    assert process.returncode == code
    assert b"stop timeout of 0.4 s over in the middle of a job" in log
    wait_until(lambda: job_server.status(function) == (1, 0, 0), "the job waits for another")


def test_stop_timeout_lets_a_job_finish_that_is_in_time(wait_until, job_server, command, module):
    process = command("worker", "--server", job_server.address, "--stop-timeout", "5", "mine")
    with Client([job_server.address], timeout=60) as client:
        client.submit("slow", b"0.6", background=True)
    wait_until(lambda: job_server.status("slow")[1] == 1, "the job runs")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    job_server.settles("slow", 0, 0)


def test_deadlines_need_the_main_thread():
    worker = Worker(["127.0.0.1"], job_timeout=1)
    worker.register("f", lambda job: None)
    errors = []

    def run():
        try:
            worker.run()
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert "call run() in the main thread" in errors[0]


def test_sigalrm_is_given_back(job_server):
    worker = Worker([job_server.address], job_timeout=0.2, max_jobs=1, splay=0)
    caught = []

    def tidy(job):
        try:
            sum(itertools.takewhile(lambda _: time.sleep(0.01) is None, itertools.repeat(0)))
        except JobTimeLimit as error:
            caught.append(str(error))
            raise

    worker.register("tidy", tidy)
    with Client([job_server.address], timeout=60) as client:
        client.submit("tidy", background=True)
    worker.run()
    assert caught == ["over the limit of 0.2 s"]
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_without_limits_sigalrm_is_the_functions_own(job_server):
    worker = Worker([job_server.address], max_jobs=2, splay=0)
    rung = []

    def ring(job):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        time.sleep(0.1)

    worker.register("ring", ring)
    with Client([job_server.address], timeout=60) as client:
        for _ in range(2):
            client.submit("ring", background=True)
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(None))
    try:
        worker.run()
        assert signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(rung) == 2


def test_a_result_may_take_longer_to_send_than_its_job_may_take(
    job_server, command, module, slow_link
):
    address = slow_link(job_server.address, 4_000_000)
    process = command("worker", "--server", address, "--job-timeout", "0.3", "mine")
    with Client([job_server.address], timeout=60) as client:
        assert client.submit("large").data == bytes(8_000_000)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"stopped: 1 jobs done, 0 failed" in log


def test_the_time_limit_does_not_break_off_what_is_being_sent(job_server, slow_link):
    worker = Worker(
        [slow_link(job_server.address, 6_000_000)], job_timeout=0.3, max_jobs=1, splay=0
    )
    worker.register("tell", lambda job: job.send_data(bytes(12_000_000)))
    parts, errors = [], []

    def submit():
        with Client([job_server.address], timeout=60) as client:
            try:
                client.submit("tell", on_data=parts.append)
            except JobException as error:
                errors.append(str(error))

    client = threading.Thread(target=submit)
    client.start()
    worker.run()
    client.join(60)
    assert parts == [bytes(12_000_000)]
    assert errors == ["JobTimeLimit: over the limit of 0.3 s"]


def test_stop_after_the_run_sets_no_alarm(job_server):
    worker = Worker([job_server.address], stop_timeout=0.1, max_jobs=1, splay=0)
    worker.register("f", lambda job: None)
    with Client([job_server.address], timeout=60) as client:
        client.submit("f", background=True)
    worker.run()
    worker.stop()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_job_that_starts_after_stop_has_no_more_than_the_stop_timeout():
    both = deadlines.Deadlines(60, 2)
    both.install()
    try:
        both.stop()
        both.start_job(time.monotonic())
        assert 1 < signal.getitimer(signal.ITIMER_REAL)[0] <= 2
    finally:
        both.remove()
