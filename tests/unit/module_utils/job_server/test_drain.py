"""Against a real gearmand: what is closed takes nothing, what is opened is as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import (
    Admin,
    FunctionStatus,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.errors import (
    SubmitError,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.worker import Worker
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import drain


@pytest.fixture
def server(gearmand, port):
    return f"127.0.0.1:{port}"


def accepted(client, function, most=20):
    """Submit background jobs until one is refused; return how many were taken."""
    for number in range(most):
        try:
            client.submit(function, background=True)
        except SubmitError:
            return number
    return most


def test_closed_is_closed_and_every_job_is_answered(server):
    worker = Worker([server])
    worker.register("echo", lambda job: job.data)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        with Admin(server) as admin, Client([server]) as client:
            for _ in range(200):
                client.submit("echo", b"x", background=True)
            with drain.drained(admin, 10, {}):
                assert admin.status()["echo"].running == 0
                assert accepted(client, "echo") == 0
    finally:
        worker.stop()
        thread.join()


def test_jobs_left_open_it_again_with_its_limits(server):
    with Admin(server) as admin, Client([server]) as client:
        client.submit("limited", background=True)
        admin.create("idle")
        with pytest.raises(drain.Drains) as caught, drain.drained(admin, 1, {"limited": (5,)}):
            raise AssertionError("it must not come so far")
        assert caught.value.left == {"limited": FunctionStatus(1, 0, 0)}
        # Nothing of the drain is counted where no job waits.
        assert admin.status()["idle"] == FunctionStatus(0, 0, 0)
        assert accepted(client, "idle") == 20
        assert accepted(client, "limited") in (3, 4)


def test_a_full_function_is_closed_too(server):
    with Admin(server) as admin, Client([server]) as client:
        admin.create("full")
        admin.max_queue("full", 2)
        assert accepted(client, "full") == 2
        with pytest.raises(drain.Drains) as caught, drain.drained(admin, 1, {}):
            raise AssertionError("it must not come so far")
        assert caught.value.left["full"].queued == 2


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_run_that_is_cut_off_opens_it_again(server, number):
    with Admin(server) as admin, Client([server]) as client:
        admin.create("idle")
        before = signal.getsignal(number)
        with pytest.raises(GearvisorError, match="cut off"), drain.drained(admin, 5, {}):
            os.kill(os.getpid(), number)
        assert accepted(client, "idle") == 20
        assert signal.getsignal(number) == before
