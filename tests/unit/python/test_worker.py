# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers against real job servers: what users see, and what must never be lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time

import pytest
from gearvisor import job_servers, limits, serving
from gearvisor.client import Client
from gearvisor.errors import JobException, JobFailed
from gearvisor.protocol import Packet, encode
from gearvisor.worker import Worker

NO_JOB = encode(Packet.NO_JOB, response=True)


def submit(server, function, data=b"", **options):
    with Client([server.address], timeout=60) as client:
        return client.submit(function, data, **options)


@pytest.mark.parametrize(
    ("returned", "data"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        ("t\u00e9xt", "t\u00e9xt".encode()),
        (None, b""),
        (bytes(range(256)) * 4096, bytes(range(256)) * 4096),
    ],
    ids=["bytes", "bytearray", "str", "None", "1 MiB"],
)
def test_what_a_function_returns_is_the_result(shared_server, serve, returned, data):
    serve([shared_server.address], {"returns": lambda job: returned})
    assert submit(shared_server, "returns").data == data


def test_a_function_sees_its_job(shared_server, serve):
    jobs = []
    serve([shared_server.address], {"see": jobs.append})
    result = submit(shared_server, "see", b"\0payload", unique="my-id")
    (job,) = jobs
    assert (job.function, job.handle, job.unique, job.data) == (
        "see", result.handle, "my-id", b"\0payload",
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="is over"):
        job.send_data(b"too late")


class Odd(Exception):
    def __str__(self):
        return self.no_such_attribute


class NoException(BaseException):
    pass


def raising(error):
    def function(job):
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (raising(ValueError("no such row")), JobException, "^ValueError: no such row$"),
        (raising(SystemExit(3)), JobException, "^SystemExit: 3$"),
        (raising(asyncio.CancelledError()), JobException, "^CancelledError$"),
        (raising(NoException("but caught")), JobException, "^NoException: but caught$"),
        (raising(Odd()), JobException, "^Odd$"),
        (raising(JobFailed("for the log")), JobFailed, "failed"),
        (lambda job: 42, JobException, "function 'f' returned int, not bytes, str or None"),
        (lambda job: "\ud800", JobException, "UnicodeEncodeError"),
        (lambda job: job.send_status("half", 1), JobException, "TypeError"),
    ],
)
def test_a_function_that_fails_ends_its_job_not_the_worker(
    shared_server, serve, function, error, says
):
    running = serve([shared_server.address], {"f": function, "fine": lambda job: b"fine"})
    with pytest.raises(error, match=says):
        submit(shared_server, "f")
    assert submit(shared_server, "fine").data == b"fine"
    worker = running.stop()
    assert (worker.counters.total.done, worker.counters.total.failed) == (1, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"servers": []}, "servers"),
        ({"servers": "127.0.0.1"}, "servers"),
        ({"client_id": "two words"}, "holds a blank"),
        ({"max_jobs": 0}, "max_jobs 0 is not above 0"),
        ({"max_seconds": -1}, "max_seconds"),
        ({"max_rss": float("nan")}, "max_rss"),
        ({"splay": 2}, "splay 2 is not from 0 to 1"),
    ],
)
def test_bad_options_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        Worker(**{"servers": ["127.0.0.1"], **options})


def test_a_function_is_registered_once_and_at_least_one():
    worker = Worker(["127.0.0.1"])
    with pytest.raises(ValueError, match="no function is registered"):
        worker.run()
    worker.register("f", str)
    with pytest.raises(ValueError, match="'f' is registered already"):
        worker.register("f", str)


# Limits and stopping


def test_max_jobs_leaves_the_rest_to_others(job_server):
    for _ in range(5):
        submit(job_server, "f", background=True)
    worker = Worker([job_server.address], max_jobs=3, splay=0)
    worker.register("f", lambda job: None)
    worker.run()
    assert (worker.counters.total.done, worker.counters.total.failed) == (3, 0)
    job_server.settles("f", 2, 0)


def test_max_seconds_also_ends_an_idle_worker(shared_server):
    worker = Worker([shared_server.address], max_seconds=0.3, splay=0)
    worker.register("idle", str)
    started = time.monotonic()
    worker.run()
    assert 0.25 < time.monotonic() - started < 10


def test_max_rss_ends_the_worker_after_the_job_that_grew(job_server):
    worker = Worker([job_server.address], max_rss=limits.resident() + 40, splay=0)
    kept = []
    worker.register("grow", lambda job: kept.append(os.urandom(50 * 2**20)))
    worker.register("small", lambda job: None)
    thread = threading.Thread(target=worker.run)
    thread.start()
    submit(job_server, "small")
    assert thread.is_alive()
    time.sleep(limits.MEMORY_CHECK)
    submit(job_server, "grow", background=True)
    thread.join(60)
    assert not thread.is_alive() and worker.counters.total.done == 2


def test_splay_lowers_limits_each_time_differently():
    limits = {Worker(["h"], max_jobs=1000, splay=0.2)._house.limits.max_jobs for _ in range(20)}
    assert len(limits) > 10 and all(800 <= limit <= 1000 for limit in limits)


def test_stop_wakes_an_idle_worker_at_once(wait_until, shared_server, serve):
    running = serve([shared_server.address], {"idle-stop": str}, client_id="stops")
    wait_until(lambda: "stops" in shared_server.worker_ids("idle-stop"), "registration")
    time.sleep(0.1)
    started = time.monotonic()
    running.stop()
    assert time.monotonic() - started < 9


def test_stop_without_any_server(monkeypatch, serve, closed_port):
    monkeypatch.setattr(job_servers, "RETRY_FIRST", 60.0)
    monkeypatch.setattr(job_servers, "RETRY_MOST", 60.0)
    running = serve([closed_port], {"f": str})
    time.sleep(0.3)
    started = time.monotonic()
    running.stop()
    assert time.monotonic() - started < 9


# Processes and signals


@pytest.fixture
def module(tmp_path):
    """A module of functions in the working directory of the command."""
    (tmp_path / "mine.py").write_text(
        "import os, time\n"
        "def slow(job):\n"
        "    time.sleep(float(job.data))\n"
        "    return str(os.getpid())\n"
        "def hold(job):\n"
        "    while not os.path.exists('go'):\n"
        "        time.sleep(0.02)\n"
        "    return str(os.getpid())\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_job_lets_it_finish(wait_until, job_server, command, module, number):
    process = command("worker", "--server", job_server.address, "mine:slow")
    result = []
    thread = threading.Thread(target=lambda: result.append(submit(job_server, "slow", b"1")))
    thread.start()
    wait_until(lambda: job_server.status("slow")[1] == 1, "the job runs")
    submit(job_server, "slow", b"0", background=True)
    process.send_signal(number)
    thread.join(60)
    _, log = process.communicate(timeout=60)
    assert result[0].data == str(process.pid).encode()
    assert process.returncode == 0, log
    job_server.settles("slow", 1, 0)  # the next job was not taken
    assert b"stopped: 1 jobs done, 0 failed" in log


def test_a_second_signal_leaves_at_once_and_the_job_goes_to_another(
    wait_until, job_server, command, module
):
    process = command("worker", "--server", job_server.address, "mine:slow")
    submit(job_server, "slow", b"30", background=True)
    wait_until(lambda: job_server.status("slow")[1] == 1, "the job runs")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(2) == -signal.SIGTERM
    wait_until(lambda: job_server.status("slow") == (1, 0, 0), "the job waits again")


def test_an_idle_worker_leaves_on_sigterm(wait_until, job_server, command, module):
    process = command("worker", "--server", job_server.address, "--client-id", "idle", "mine:slow")
    wait_until(lambda: job_server.worker_ids("slow") == ["idle"], "registration")
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_a_killed_worker_loses_no_job(wait_until, job_server, command, module, tmp_path):
    first = command("worker", "--server", job_server.address, "mine:hold")
    result = []
    thread = threading.Thread(target=lambda: result.append(submit(job_server, "hold")))
    thread.start()
    wait_until(lambda: job_server.status("hold")[1] == 1, "the job runs")
    second = command("worker", "--server", job_server.address, "mine:hold")
    wait_until(lambda: job_server.status("hold")[2] == 2, "registration")
    first.kill()
    first.wait()
    (tmp_path / "go").touch()
    thread.join(60)
    assert result[0].data == str(second.pid).encode()


# Job servers that go and come


def test_an_idle_worker_is_woken_by_the_job_server(shared_server, serve):
    serve([shared_server.address], {"wake": lambda job: None})
    submit(shared_server, "wake")
    seconds = []
    for _ in range(3):
        time.sleep(0.1)
        seconds.append(submit(shared_server, "wake").seconds)
    assert min(seconds) < 0.5, "that is polling"


def test_a_restart_while_idle_is_survived(job_server, serve, caplog):
    caplog.set_level(logging.INFO, "gearvisor.worker")
    serve([job_server.address], {"f": lambda job: job.data[::-1]}, client_id="keeps-its-id")
    assert submit(job_server, "f", b"ab").data == b"ba"
    job_server.stop()
    time.sleep(1)  # several attempts
    job_server.start()
    assert submit(job_server, "f", b"ab").data == b"ba"
    assert job_server.worker_ids("f") == ["keeps-its-id"]
    messages = [record.getMessage() for record in caplog.records]
    assert len([each for each in messages if each.startswith("job server is away")]) == 1
    assert len([each for each in messages if each.startswith("serving ")]) == 2


def test_a_restart_while_busy_drops_the_old_result(wait_until, job_server, serve, caplog):
    """Handles start at 1 again, so a result on the new connection would be another job's."""

    def restart_once(job):
        if job.data == b"restart":
            job_server.stop()
            job_server.start()
            submit(job_server, "f", b"new", background=True, unique="new")
            assert job_server.status("f")[0] == 1
            return b"old result"
        done.append(job.data)
        return None

    done = []
    running = serve([job_server.address], {"f": restart_once}, client_id="busy")
    submit(job_server, "f", b"restart", background=True)
    wait_until(lambda: done == [b"new"], "the new server's job")
    wait_until(lambda: job_server.status("f")[:2] == (0, 0), "its result arrives")
    assert job_server.worker_ids("f") == ["busy"]
    assert running.stop().counters.total.done == 2
    messages = [record.getMessage() for record in caplog.records]
    assert [each for each in messages if "before it took the result of job H:" in each]
    assert not [each for each in messages if "JOB_NOT_FOUND" in each]


def test_sending_on_a_lost_connection_raises_in_the_function(wait_until, job_server, serve):
    raised = []

    def lose(job):
        job_server.stop()
        try:
            for _ in range(20):
                job.send_data(b"x")
                time.sleep(0.02)
        except Exception as error:
            raised.append(type(error).__name__)

    serve([job_server.address], {"lose": lose})
    submit(job_server, "lose", background=True)
    wait_until(lambda: raised, "the function notices")
    assert raised == ["ServerUnavailable"]


def test_no_spinning_when_a_peer_accepts_and_closes(peer, serve, caplog):
    """As a tunnel does whose other end has no job server."""
    address = peer(b"not gearman at all")
    running = serve([address], {"f": str})
    before = time.process_time()
    time.sleep(0.7)
    assert time.process_time() - before < 0.2
    running.stop()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and "not the Gearman protocol" in messages[0]


def test_a_silent_job_server_counts_as_lost(wait_until, peer, serve, caplog, monkeypatch):
    monkeypatch.setattr(job_servers, "CONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(job_servers, "ANSWER_TIMEOUT", 0.3)
    serve([peer()], {"f": str})
    wait_until(lambda: "no answer for 0.3 s" in caplog.text, "the worker gives up on it")


def test_a_stray_noop_is_no_answer(peer, serve, caplog, monkeypatch):
    monkeypatch.setattr(serving, "STOP_TIMEOUT", 0.1)
    noop = encode(Packet.NOOP, response=True)
    running = serve([peer(noop + NO_JOB)], {"f": str})
    time.sleep(0.3)
    running.stop()
    assert caplog.records == []


def test_due_jobs_are_found_by_polling(wait_until, job_server, serve):
    """gearmand 1.1 does not wake sleeping workers for SUBMIT_JOB_EPOCH."""
    done = []
    serve([job_server.address], {"due": lambda job: done.append(time.time())})
    wait_until(lambda: job_server.status("due")[2] == 1, "registration")
    due = int(time.time()) + 2
    with Client([job_server.address]) as client:
        connection = client._ready(None)
        connection.send(encode(Packet.SUBMIT_JOB_EPOCH, b"due", b"u", b"%d" % due, b""))
        assert connection.receive(60)[0] == Packet.JOB_CREATED
    wait_until(lambda: done, "the due job")
    assert due <= done[0]


def test_a_worker_never_waits_awake(monkeypatch, shared_server, serve, wait_until):
    turns, done = [], []
    monkeypatch.setattr(os, "sched_yield", lambda: turns.append(None))
    for _ in range(200):
        submit(shared_server, "row", background=True)
    serve([shared_server.address], {"row": done.append})
    wait_until(lambda: len(done) == 200, "the row")
    assert not turns


# Several job servers


def test_one_job_at_a_time_over_two_servers_and_both_in_turn(
    wait_until, job_server, other_job_server, serve
):
    servers = [job_server, other_job_server]
    running, most, order = [], [], []

    def function(job):
        running.append(job)
        most.append(sum(server.status("f")[1] for server in servers))
        order.append(job.data)
        time.sleep(0.01)
        running.pop()

    for server in servers:
        for _ in range(10):
            submit(server, "f", server.address.encode(), background=True)
    serve([server.address for server in servers], {"f": function})
    wait_until(lambda: len(order) == 20, "all jobs")
    assert set(most) == {1}, "a second job was taken while one ran"
    turns = sum(one != next_one for one, next_one in zip(order, order[1:]))
    assert turns >= 17, order


def test_small_jobs_of_two_servers_are_done_in_short_turns(
    wait_until, job_server, other_job_server, serve
):
    servers = [job_server, other_job_server]
    order = []
    for server in servers:
        with Client([server.address]) as client:
            for _ in range(1500):
                client.submit("f", server.address.encode(), background=True)
    serve([server.address for server in servers], {"f": lambda job: order.append(job.data)})
    wait_until(lambda: len(order) == 3000, "all jobs")
    turns = sum(one != next_one for one, next_one in zip(order, order[1:]))
    assert turns < 1500, "each turn asks again for a job"
    last = order[-1]
    assert order.index(last) < 1500, "one waited until the other had no more jobs"
    assert order[:1500].count(last) > 100, "one was hardly served beside the other"


def test_a_due_job_is_done_beside_a_busy_server(wait_until, job_server, other_job_server, serve):
    done = []
    serve(
        [job_server.address, other_job_server.address],
        {"due": lambda job: done.append(time.time()), "now": lambda job: None},
    )
    wait_until(lambda: other_job_server.status("due")[2] == 1, "registration")
    due = int(time.time()) + 2
    with Client([other_job_server.address]) as client:
        client.submit("due", background=True, at=due)
    with Client([job_server.address], timeout=60) as client:
        while not done and time.time() < due + 5:
            client.submit("now")
            time.sleep(0.2)
    assert due <= done[0] < due + 2


@pytest.mark.parametrize("direction", ["payload", "result"])
def test_what_takes_long_to_send_is_done_once(
    monkeypatch, job_server, other_job_server, serve, slow_link, direction
):
    monkeypatch.setattr(job_servers, "POLL", 0.2)
    monkeypatch.setattr(job_servers, "ANSWER_TIMEOUT", 2)
    monkeypatch.setattr(job_servers, "ANSWER_TIMEOUT_BUSY", 2)
    monkeypatch.setattr(job_servers, "CONNECT_TIMEOUT", 1)
    monkeypatch.setattr(job_servers, "CONNECT_TIMEOUT_BUSY", 1)
    runs = []

    def function(job):
        runs.append(None)
        return bytes(6_000_000) if direction == "result" else b"%d" % len(job.data)

    serve([slow_link(job_server.address, 1_500_000), other_job_server.address], {"f": function})
    data = bytes(6_000_000) if direction == "payload" else b""
    result = submit(job_server, "f", data).data
    assert result == (bytes(6_000_000) if direction == "result" else b"6000000")
    assert len(runs) == 1


def test_one_server_down_does_not_keep_the_other_waiting(
    job_server, other_job_server, serve, caplog
):
    serve([job_server.address, other_job_server.address], {"f": lambda job: job.data})
    for server in (job_server, other_job_server):
        assert submit(server, "f", b"x").data == b"x"
    other_job_server.stop()
    started = time.monotonic()
    for _ in range(50):
        assert submit(job_server, "f", b"x").data == b"x"
    assert time.monotonic() - started < 25
    other_job_server.start()
    assert submit(other_job_server, "f", b"back").data == b"back"


def test_a_server_given_twice_is_one(wait_until, job_server, serve):
    serve([job_server.address, job_server.address], {"f": str}, client_id="once")
    wait_until(lambda: job_server.worker_ids("f"), "registration")
    time.sleep(0.1)
    assert job_server.worker_ids("f") == ["once"]


def test_memory_that_cannot_be_looked_at_costs_no_job(monkeypatch, shared_server, serve):
    def resident():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(limits, "resident", resident)
    serve([shared_server.address], {"f": lambda job: b"done"}, max_rss=1)
    for _ in range(2):
        assert submit(shared_server, "f").data == b"done"


@pytest.mark.parametrize(
    ("worker", "client_id"),
    [
        ("web1.example/mail_03", "web1.example/mail_03#PID"),
        ("web 1/a\tb\u2028c", "web_1/a_b_c#PID"),
        ("h" * 300, "h" * (126 - len(str(os.getpid()))) + "#PID"),
        ("\u00e9" * 100, None),
        ("\udcff\x1b/x", None),
        ("", None),
    ],
)
def test_the_client_id_is_the_name_of_the_process_in_the_fleet(monkeypatch, worker, client_id):
    monkeypatch.setenv("GEARVISOR_WORKER", worker)
    made = Worker(["127.0.0.1"]).client_id  # which refuses what no job server takes
    assert made.endswith(str(os.getpid()))
    if client_id is not None:
        assert made == client_id.replace("PID", str(os.getpid()))
    assert Worker(["127.0.0.1"], "mine").client_id == "mine"
