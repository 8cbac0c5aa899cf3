# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The admin commands against a real job server."""

from __future__ import annotations

import re
import time

import pytest
from gearvisor import admin as admin_module
from gearvisor.admin import Admin, FunctionStatus
from gearvisor.client import Client
from gearvisor.connection import Connection
from gearvisor.errors import AdminError, ProtocolError, ServerUnavailable, SubmitError
from gearvisor.protocol import Packet, encode


@pytest.fixture
def admin(job_server):
    with Admin(job_server.address) as admin:
        yield admin


@pytest.fixture
def client(job_server):
    with Client([job_server.address], timeout=60) as client:
        yield client


def test_version_is_the_number_alone(admin):
    assert re.match(r"\d+\.\d+\.\d+", admin.version())


def test_a_new_job_server_knows_no_function(admin):
    assert admin.status() == {}


def test_create_keeps_the_whole_name_and_drop_forgets_it(admin):
    admin.create("foobar")
    assert admin.status() == {"foobar": FunctionStatus(queued=0, running=0, workers=0)}
    admin.drop("foobar")
    assert admin.status() == {}


def test_queued_does_not_count_the_running_job(admin, client, serve, job_server):
    started = []

    def hold(job):
        started.append(job)
        while len(started) < 2:
            time.sleep(0.01)

    for _ in range(3):
        client.submit("hold", background=True)
    assert admin.status()["hold"] == (3, 0, 0)
    serve([job_server.address], {"hold": hold})
    while not started:
        time.sleep(0.01)
    assert admin.status()["hold"] == FunctionStatus(queued=2, running=1, workers=1)
    started.append(None)


def test_workers_lists_ids_and_functions(admin, serve, job_server):
    serve([job_server.address], {"b": str, "a": str}, client_id="web-1:4")
    while not (rows := [row for row in admin.workers() if row.client_id == "web-1:4"]):
        time.sleep(0.01)
    assert sorted(rows[0].functions) == ["a", "b"]
    assert rows[0].address == "127.0.0.1"
    own = [row for row in admin.workers() if row.client_id == "-"]
    assert len(own) == 1 and own[0].functions == ()


@pytest.mark.parametrize("sizes", [(2,), (2, 2, 2)])
def test_max_queue_refuses_further_jobs(admin, client, sizes):
    admin.create("bounded")
    admin.max_queue("bounded", *sizes)
    for _ in range(2):
        client.submit("bounded", background=True)
    with pytest.raises(SubmitError, match="QUEUE_ERROR"):
        client.submit("bounded", background=True)
    admin.max_queue("bounded", 0)
    client.submit("bounded", background=True)


def test_cancel_takes_a_waiting_job_away(admin, client, serve, job_server):
    cancelled = client.submit("cancel", b"first", background=True)
    client.submit("cancel", b"second", background=True)
    admin.cancel(cancelled.handle)
    seen = []
    worker = serve([job_server.address], {"cancel": lambda job: seen.append(job.data)})
    while not seen or admin.status()["cancel"].queued:
        time.sleep(0.01)
    worker.stop()
    assert seen == [b"second"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda admin: admin.drop("never"), "`drop function never` replied 'ERR function not"),
        (lambda admin: admin.cancel("H:none:1"), "UNKNOWN_JOB"),
    ],
)
def test_a_refused_command_shows_what_the_job_server_said(admin, call, says):
    with pytest.raises(AdminError, match=says):
        call(admin)
    assert admin.version(), "the connection can still be used"


def test_drop_is_refused_while_a_worker_is_there(admin, serve, job_server):
    serve([job_server.address], {"busy": str})
    while not admin.status().get("busy", (0, 0, 0))[2]:
        time.sleep(0.01)
    with pytest.raises(AdminError, match="still connected workers"):
        admin.drop("busy")


@pytest.mark.parametrize("name", ["", "two words", "a\r\nshutdown", "tab\t", "n\0ul"])
def test_names_that_would_be_another_command_are_refused(admin, name):
    with pytest.raises(ValueError):
        admin.create(name)
    with pytest.raises(ValueError):
        admin.cancel(name)


def test_max_queue_takes_one_size_or_three(admin):
    with pytest.raises(ValueError, match="one size or three, not 2"):
        admin.max_queue("f", 1, 2)


def test_a_silent_peer_does_not_hang(peer):
    with (
        Admin(peer(), timeout=0.2) as admin,
        pytest.raises(ServerUnavailable, match=r"no reply to `status` in 0.2 s"),
    ):
        admin.status()


def test_a_reply_without_end_is_cut(peer, monkeypatch):
    monkeypatch.setattr(admin_module, "MAX_REPLY", 100_000)
    with Admin(peer(b"x" * 200_000)) as admin, pytest.raises(ProtocolError, match="over 100000"):
        admin.status()


@pytest.mark.parametrize("command", ["status", "workers"])
def test_a_reply_that_makes_no_sense_is_an_error(peer, command):
    with (
        Admin(peer(b"hello there\n.\n")) as admin,
        pytest.raises(ProtocolError, match="hello there"),
    ):
        getattr(admin, command)()


ODD_NAMES = [
    b"odd\nname",
    b"send mail",
    b"tab\tx",
    b"\xff\xfe",
    b"x\n.\ny",
    b"a :b",
    b"\x1b[2J",
    b".",
]


@pytest.fixture
def stranger(job_server):
    """A worker whose client id and functions hold what no sensible one does."""
    connection = Connection("127.0.0.1", job_server.port, 60)
    for name in ODD_NAMES:
        connection.send(encode(Packet.CAN_DO, name))
    connection.send(encode(Packet.SET_CLIENT_ID, b"id\nwith blank\t\xff"))
    connection.send(encode(Packet.ECHO_REQ, b""))
    connection.receive(60)
    yield connection
    connection.close()


def test_names_of_strangers_are_listed_as_they_are(admin, stranger):
    names = {name.decode(errors="surrogateescape") for name in ODD_NAMES}
    assert set(admin.status()) == names
    assert set(admin.waiting_by_priority()) == names
    (row,) = [row for row in admin.workers() if row.functions]
    assert set(row.functions) == names
    assert row.client_id == "id\nwith blank\t\udcff"


def test_unique_ids_lists_those_of_waiting_and_running_jobs(admin, client):
    assert admin.unique_ids() == []
    for unique in ("one", "two"):
        client.submit("f", background=True, unique=unique)
    assert sorted(admin.unique_ids()) == ["one", "two"]


@pytest.mark.parametrize("name", ["send mail", "tab\tx", "odd\nname"])
@pytest.mark.parametrize("command", ["drop", "create", "max_queue"])
def test_a_name_that_no_command_can_express_is_refused_with_the_reason(admin, name, command):
    arguments = (name, 1) if command == "max_queue" else (name,)
    with pytest.raises(ValueError, match="separates words by blanks"):
        getattr(admin, command)(*arguments)


def test_a_name_that_is_not_utf_8_can_be_dropped(admin, stranger, wait_until):
    stranger.close()
    wait_until(lambda: admin.status()["\udcff\udcfe"].workers == 0, "the worker is gone")
    admin.drop("\udcff\udcfe")
    assert "\udcff\udcfe" not in admin.status()


def test_errors_are_shown_escaped(peer):
    with Admin(peer(b"\x1b[2J\n.\n")) as admin, pytest.raises(ProtocolError) as error:
        admin.status()
    assert str(error.value).isprintable()
