"""Against a real gearmand: what is closed takes nothing, what is opened is as before."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils import module
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import Interrupted
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import (
    Admin,
    FunctionStatus,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.connection import (
    Connection,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.errors import (
    SubmitError,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.protocol import (
    Packet,
    encode,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.worker import Worker
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import journal
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.process import Process
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import drain
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.recovery import UNDO


@pytest.fixture
def server(gearmand, port):
    return f"127.0.0.1:{port}"


@pytest.fixture
def host(tmp_path):
    return Host(None, root=str(tmp_path))


@pytest.fixture
def drained(host, gearmand):
    """Call it with an Admin, seconds and limits."""
    return lambda *rest: drain.drained(host, Process(gearmand.pid), *rest)


def notes(host):
    directory = host.path(journal.DIRECTORY)
    return os.listdir(directory) if os.path.isdir(directory) else []


def accepted(client, function, most=20):
    """Submit background jobs until one is refused; return how many were taken."""
    for number in range(most):
        try:
            client.submit(function, background=True)
        except SubmitError:
            return number
    return most


def test_closed_is_closed_and_every_job_is_answered(server, drained):
    worker = Worker([server])
    worker.register("echo", lambda job: job.data)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        with Admin(server) as admin, Client([server]) as client:
            for _ in range(200):
                client.submit("echo", b"x", background=True)
            with drained(admin, 10, {}):
                assert admin.status()["echo"].running == 0
                assert accepted(client, "echo") == 0
    finally:
        worker.stop()
        thread.join()


def test_jobs_left_open_it_again_with_its_limits(server, drained):
    with Admin(server) as admin, Client([server]) as client:
        client.submit("limited", background=True)
        admin.create("idle")
        with pytest.raises(drain.Drains) as caught, drained(admin, 1, {"limited": (5,)}):
            raise AssertionError("it must not come so far")
        assert caught.value.left == {"limited": FunctionStatus(1, 0, 0)}
        # Nothing of the drain is counted where no job waits.
        assert admin.status()["idle"] == FunctionStatus(0, 0, 0)
        assert accepted(client, "idle") == 20
        assert accepted(client, "limited") in (3, 4)


def test_a_full_function_is_closed_too(server, drained):
    with Admin(server) as admin, Client([server]) as client:
        admin.create("full")
        admin.max_queue("full", 2)
        assert accepted(client, "full") == 2
        with pytest.raises(drain.Drains) as caught, drained(admin, 1, {}):
            raise AssertionError("it must not come so far")
        assert caught.value.left["full"].queued == 2


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_run_that_is_cut_off_opens_it_again(server, drained, host, number):
    with Admin(server) as admin, Client([server]) as client:
        admin.create("idle")
        with (
            pytest.raises(Interrupted),
            module._interruptible(),
            drained(admin, 2, {}),
        ):
            assert notes(host)
            os.kill(os.getpid(), number)
            time.sleep(10)
        assert admin.status()["idle"].queued == 0
        assert accepted(client, "idle") == 20
        assert notes(host) == []


def killed_in_a_drain(host, pid, server, seconds):
    """In a separate process: drain, and be killed before gearmand is ended."""
    with (
        Admin(server) as admin,
        drain.drained(host, Process(pid), admin, seconds, {"limited": [5]}),
    ):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def killed(server, gearmand, host):
    """Call it to leave what a run leaves that is killed with SIGKILL while it drains."""

    def kill(seconds=2):
        with Admin(server) as admin:
            for name in ("idle", "limited"):
                admin.create(name)
        arguments = (host, gearmand.pid, server, seconds)
        run = multiprocessing.get_context("fork").Process(target=killed_in_a_drain, args=arguments)
        run.start()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        assert notes(host)

    return kill


def test_the_next_run_opens_what_a_killed_one_closed(server, host, killed):
    killed()
    with Admin(server) as admin, Client([server]) as client:
        assert accepted(client, "idle") == 0
        assert journal.recover(host, UNDO, report_only=True)
        assert accepted(client, "idle") == 0
        (said,) = journal.recover(host, UNDO)
        assert f"{server} takes new jobs again" in said
        # Nothing of the drain is counted as a client's job.
        assert {name: jobs.queued for name, jobs in admin.status().items()} == {
            "idle": 0,
            "limited": 0,
        }
        assert accepted(client, "idle") == 20
        assert accepted(client, "limited") == 5
        assert notes(host) == []


def test_a_gearmand_that_was_restarted_since_needs_nothing(server, host, gearmand, killed):
    killed(300)
    gearmand.kill()
    gearmand.wait()
    (said,) = journal.recover(host, UNDO)
    assert "has ended since" in said
    assert notes(host) == []


def test_one_that_does_not_answer_stays_in_the_journal(server, host, gearmand, killed, monkeypatch):
    killed()
    monkeypatch.setattr(drain, "_TIMEOUT", 0.2)
    gearmand.send_signal(signal.SIGSTOP)
    try:
        (said,) = journal.recover(host, UNDO)
    finally:
        gearmand.send_signal(signal.SIGCONT)
    assert "could not be taken back" in said
    assert notes(host)
    monkeypatch.undo()
    assert "takes new jobs again" in journal.recover(host, UNDO)[0]


def test_sentinels_are_renewed_as_long_as_it_drains(server, drained, monkeypatch):
    """With a short life of the sentinels, a drain of several lives stays closed and is exact."""
    monkeypatch.setattr(drain, "_SENTINEL_SECONDS", 3)
    monkeypatch.setattr(drain, "_RENEWED_BEFORE", 1)
    with Admin(server) as admin, Client([server]) as client:
        client.submit("slow", b"", background=True)
        worker = Connection(*server.split(":")[:1], int(server.split(":")[1]), 5)
        worker.send(encode(Packet.CAN_DO, b"slow") + encode(Packet.GRAB_JOB))
        handle = worker.receive(60)[1][0]
        timer = threading.Timer(9, worker.send, [encode(Packet.WORK_COMPLETE, handle, b"")])
        timer.start()
        with drained(admin, 30, {}):
            assert accepted(client, "slow") == 0
            assert admin.status()["slow"].running == 0
        timer.join()


def test_odd_names_do_not_stand_in_the_way(server, drained, host):
    """Any client can leave such names behind; no worker serves them."""
    odd = ["send mail", "a\nb", "tab\tbed", "x" * 600]
    with Admin(server) as admin, Client([server]) as client:
        connection = Connection("127.0.0.1", int(server.split(":")[1]), 60)
        for name in odd:
            connection.send(encode(Packet.CAN_DO, name.encode()))
        connection.finish(60)
        admin.create("idle")
        with drained(admin, 5, {}):
            assert accepted(client, "idle") == 0


def test_a_job_of_such_a_function_is_waited_for(server, drained):
    with Admin(server) as admin, Client([server]) as client:
        client.submit("send mail", b"", background=True)
        with pytest.raises(drain.Drains) as caught, drained(admin, 1, {}):
            raise AssertionError("it must not come so far")
        assert list(caught.value.left) == ["send mail"]


@pytest.mark.parametrize(
    ("name", "closable"),
    [
        ("resize", True),
        ("\u00e4\u00a0", True),
        ("\udcff", True),
        ("", False),
        ("send mail", False),
        ("a\nb", False),
        ("a\x0bb", False),
        ("x" * 513, False),
    ],
)
def test_what_admin_commands_can_name(name, closable):
    assert bool(drain.is_closable(name)) is closable
