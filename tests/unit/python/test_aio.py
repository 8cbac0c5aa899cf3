# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The asyncio client and worker, against real job servers, and against the synchronous ones."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from gearvisor import aio, aio_serving
from gearvisor import client as client_module
from gearvisor.errors import JobException, JobFailed, JobTimeout, ServerUnavailable, SubmitError
from gearvisor.protocol import Packet, encode
from gearvisor.reference import FUNCTIONS

GREETING = encode(Packet.OPTION_RES, b"exceptions", response=True)


def chatty(job):
    for number in range(3):
        job.send_data(b"%d " % number)
        job.send_status(number, 3)
    job.send_warning(b"careful")
    return b"three"


@pytest.fixture
def server(shared_server, serve):
    serve([shared_server.address], {**FUNCTIONS, "chatty": chatty})
    return shared_server


async def submit(servers, function, data=b"", **options):
    async with aio.Client(servers, timeout=options.pop("timeout", 10)) as client:
        return await client.submit(function, data, **options)


# Client


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
@pytest.mark.parametrize(
    "payload",
    [b"", bytes(range(256)), bytes(range(256)) * 4096],
    ids=["empty", "all bytes", "1 MiB"],
)
def test_round_trip(server, payload, priority):
    result = asyncio.run(submit([server.address], "reverse", payload, priority=priority))
    assert result.data == payload[::-1]
    assert result.server == server.address


def test_many_at_once_over_one_connection(wait_until, job_server, serve):
    serve([job_server.address], dict(FUNCTIONS))

    async def run():
        async with aio.Client([job_server.address], timeout=60) as client:
            texts = [b"%d" % number for number in range(500)]
            results = await asyncio.gather(*(client.submit("reverse", text) for text in texts))
            assert [result.data for result in results] == [text[::-1] for text in texts]
            return len(job_server.connections())

    assert asyncio.run(run()) == 3  # the client, the worker, and who counts


def test_jobs_with_one_unique_id_are_one_job_with_as_many_answers(shared_server, serve):
    runs = []
    release = threading.Event()

    def once(job):
        runs.append(job.handle)
        release.wait(60)
        job.send_data(b"part ")
        return b"end"

    serve([shared_server.address], {"once": once})

    async def run():
        async with aio.Client([shared_server.address], timeout=60) as client:
            tasks = [asyncio.ensure_future(client.submit("once", unique="one")) for _ in range(3)]
            while not runs:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            release.set()
            return await asyncio.gather(*tasks)

    results = asyncio.run(run())
    assert [result.data for result in results] == [b"part end"] * 3
    assert len(runs) == 1


def test_callbacks(server):
    data, warnings, statuses = [], [], []
    result = asyncio.run(
        submit(
            [server.address], "chatty", on_data=data.append, on_warning=warnings.append,
            on_status=lambda *numbers: statuses.append(numbers),
        )
    )  # fmt: skip
    assert (data, warnings) == ([b"0 ", b"1 ", b"2 "], [b"careful"])
    assert statuses == [(0, 3), (1, 3), (2, 3)]
    assert result.data == b"three"


@pytest.mark.parametrize(
    ("function", "data", "error", "says"),
    [
        ("fail", b"", JobFailed, "failed"),
        ("fail", b"no such row", JobException, "RuntimeError: no such row"),
        ("sleep", b"5", JobTimeout, "in time"),
    ],
)
def test_failures_leave_the_connection_usable(server, function, data, error, says):
    async def run():
        async with aio.Client([server.address]) as client:
            with pytest.raises(error, match=says):
                await client.submit(function, data, timeout=0.3)
            # Not to the worker that sleeps: a job server answers this by itself.
            assert (await client.submit("queue_only", background=True, timeout=5)).handle

    asyncio.run(run())


def test_a_refused_submission_is_distinguished_from_the_others(job_server):
    with job_server.admin() as admin:
        admin.create("small")
        admin.max_queue("small", 1)

    async def run():
        async with aio.Client([job_server.address], timeout=60) as client:
            return await asyncio.gather(
                *(client.submit("small", background=True) for _ in range(3)),
                client.submit("large", background=True),
                return_exceptions=True,
            )

    first, second, third, other = asyncio.run(run())
    assert first.handle and other.handle
    for refused in (second, third):
        assert isinstance(refused, SubmitError) and refused.code == "QUEUE_ERROR"


def test_failover(server, closed_port):
    for _ in range(5):
        result = asyncio.run(submit([closed_port, server.address], "echo", b"x"))
        assert result.server == server.address


def test_no_server(closed_port):
    with pytest.raises(ServerUnavailable, match=f"{closed_port}: "):
        asyncio.run(submit([closed_port], "echo"))


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_peer_that_is_no_job_server(peer, says):
    started = time.monotonic()
    with pytest.raises(ServerUnavailable):
        asyncio.run(submit([peer(says)], "echo", timeout=0.5))
    assert time.monotonic() - started < 10


def test_a_server_lost_in_a_job_fails_it_and_the_next_finds_another(
    wait_until, job_server, other_job_server, serve
):
    serve([other_job_server.address], {"echo": FUNCTIONS["echo"]})

    async def run():
        async with aio.Client([job_server.address], timeout=60) as client:
            waiting = asyncio.ensure_future(client.submit("nobody"))
            while not job_server.status("nobody")[0]:
                await asyncio.sleep(0.02)
            job_server.stop()
            with pytest.raises(ServerUnavailable):
                await waiting
            client._servers += aio.Client([other_job_server.address])._servers
            return await client.submit("echo", b"again")

    assert asyncio.run(run()).data == b"again"


def test_status(wait_until, job_server, serve):
    async def run():
        async with aio.Client([job_server.address], timeout=60) as client:
            result = await client.submit("later", background=True)
            before = await client.status(result)
            running = serve([job_server.address], {"later": lambda job: None})
            while (await client.status(result)).known:
                await asyncio.sleep(0.02)
            assert running.stop().counters.total.done == 1
            return before

    assert asyncio.run(run()) == client_module.JobStatus(True, False, 0, 0)


def test_status_is_not_put_off_by_what_a_job_server_shows_meanwhile():
    async def chatter(_reader, writer):
        for _ in range(20):
            writer.write(encode(Packet.NOOP, response=True))
            await asyncio.sleep(0.1)
        writer.close()

    async def run():
        listener = await asyncio.start_server(chatter, "127.0.0.1", 0)
        address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        result = client_module.Result("H:1", "u", b"", 0.0, address)
        started = time.monotonic()
        async with listener, aio.Client([address]) as client:
            with pytest.raises(ServerUnavailable, match=f"{address}: no answer in 0.3 s"):
                await client.status(result, timeout=0.3)
            return time.monotonic() - started

    assert asyncio.run(run()) < 1.5


def test_a_peer_that_resets_is_unavailable(peer):
    address = peer(resets=True)

    async def run():
        for _ in range(300):
            with pytest.raises(ServerUnavailable):
                await submit([address], "echo", timeout=5)

    asyncio.run(run())


def test_a_cancelled_submission_leaves_no_connection(peer):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    async def run():
        client = aio.Client([peer()])
        before = descriptors()
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.submit("echo"), 0.05)
        await asyncio.sleep(0.1)
        # The peer is in this process, and keeps its ends.
        return descriptors() - before - 20

    assert asyncio.run(run()) <= 2


def test_timeout_covers_the_wait_for_another_submissions_connection(peer):
    async def run():
        async with aio.Client([peer()], connect_timeout=2) as client:
            first = asyncio.ensure_future(client.submit("echo"))
            await asyncio.sleep(0.05)
            started = time.monotonic()
            with pytest.raises(ServerUnavailable):
                await client.submit("echo", timeout=0.3)
            seconds = time.monotonic() - started
            first.cancel()
            return seconds

    assert asyncio.run(run()) < 1


# Worker


@pytest.fixture
def serve_async(wait_until):
    """serve_async(servers, functions, **options): an asyncio worker in a thread."""
    running = []

    def start(servers, functions, **options):
        loop = asyncio.new_event_loop()
        workers = []

        async def run():
            workers.append(aio.Worker(servers, **options))
            for name, function in functions.items():
                workers[0].register(name, function)
            await workers[0].run()

        thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
        thread.start()
        wait_until(lambda: workers, "the worker starts")

        def stop():
            if thread.is_alive():
                loop.call_soon_threadsafe(workers[0].stop)
                thread.join(60)
            assert not thread.is_alive(), "the worker does not stop"
            loop.close()
            return workers[0].counters.total

        running.append(stop)
        return stop

    yield start
    for stop in running:
        stop()


async def reverse(job):
    return job.data[::-1]


async def talk(job):
    job.send_data(b"part ")
    await asyncio.sleep(0)
    return "end"


async def nap(job):
    await asyncio.sleep(float(job.data))
    return b"rested"


async def leave(job):
    raise SystemExit(3)


class NoException(BaseException):
    pass


async def leave_otherwise(job):
    raise NoException("but caught")


async def give_up(job):
    raise JobFailed("for the log")


async def number(job):
    return 42


ASYNC = {"reverse_a": reverse, "talk": talk, "nap": nap, "leave": leave, "give_up": give_up,
         "number": number, "leave_otherwise": leave_otherwise}  # fmt: skip


@pytest.mark.parametrize(
    ("function", "data", "expected"),
    [
        ("reverse_a", b"", b""),
        pytest.param(
            "reverse_a",
            bytes(range(256)) * 4096,
            (bytes(range(256)) * 4096)[::-1],
            id="1 MiB",
        ),
        ("talk", b"", b"part end"),
        ("leave", b"", (JobException, "SystemExit: 3")),
        ("leave_otherwise", b"", (JobException, "NoException: but caught")),
        ("give_up", b"", (JobFailed, "failed")),
        ("number", b"", (JobException, "returned int, not bytes, str or None")),
        ("nap", b"9", (JobException, "JobTimeLimit: over the limit of 0.3 s")),
    ],
)
def test_an_async_function_answers(shared_server, serve_async, function, data, expected):
    serve_async([shared_server.address], ASYNC, job_timeout=0.3)
    with client_module.Client([shared_server.address], timeout=60) as client:
        if isinstance(expected, bytes):
            assert client.submit(function, data).data == expected
        else:
            with pytest.raises(expected[0], match=expected[1]):
                client.submit(function, data)
        assert client.submit("reverse_a", b"next").data == b"txen"


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (4, 4)])
def test_concurrency_is_the_number_of_jobs_at_once(job_server, other_job_server, serve_async,
                                                   concurrency, most):  # fmt: skip
    """Over all job servers together: one lane does one job at a time."""
    now, seen = [], []

    async def count(job):
        now.append(job)
        seen.append(len(now))
        await asyncio.sleep(0.05)
        now.remove(job)

    servers = [job_server.address, other_job_server.address]
    stop = serve_async(servers, {"count": count}, concurrency=concurrency)

    async def run():
        await asyncio.gather(*(submit([each], "count") for each in servers * 8))

    asyncio.run(run())
    assert max(seen) == most
    total = stop()
    assert (total.done, total.failed) == (16, 0)


def test_stop_finishes_the_running_job(wait_until, job_server, serve_async):
    stop = serve_async([job_server.address], ASYNC)

    async def run():
        waiting = asyncio.ensure_future(submit([job_server.address], "nap", b"0.5"))
        while not job_server.status("nap")[1]:
            await asyncio.sleep(0.02)
        total = await asyncio.get_running_loop().run_in_executor(None, stop)
        return total.done, (await waiting).data

    assert asyncio.run(run()) == (1, b"rested")


def test_a_restarted_job_server_is_served_again(wait_until, job_server, serve_async):
    serve_async([job_server.address], ASYNC, client_id="async-worker")
    wait_until(lambda: job_server.worker_ids("nap"), "registered")
    job_server.stop()
    job_server.start()
    wait_until(lambda: job_server.worker_ids("nap") == ["async-worker"], "registered again")
    assert asyncio.run(submit([job_server.address], "reverse_a", b"ab")).data == b"ba"


def test_a_peer_that_resets_is_tried_again(peer, job_server, serve_async):
    serve_async([peer(resets=True), job_server.address], ASYNC, concurrency=5)
    time.sleep(1)
    assert asyncio.run(submit([job_server.address], "reverse_a", b"ab")).data == b"ba"


def test_a_payload_may_take_longer_than_a_job_server_may_be_silent(
    monkeypatch, job_server, serve_async, slow_link
):
    monkeypatch.setattr(aio_serving, "ANSWER_TIMEOUT", 2)
    serve_async([slow_link(job_server.address, 1_500_000)], ASYNC)
    result = asyncio.run(submit([job_server.address], "reverse_a", bytes(6_000_000)))
    assert result.data == bytes(6_000_000)


def test_each_kind_of_function_has_its_worker():
    worker = aio.Worker(["127.0.0.1"])
    with pytest.raises(ValueError, match=r"'f' is not async; serve it with gearvisor\.worker"):
        worker.register("f", lambda job: b"")
    with pytest.raises(ValueError, match="concurrency 0 is not at least 1"):
        aio.Worker(["127.0.0.1"], concurrency=0)
