# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference functions, as a client of a worker sees them."""

from __future__ import annotations

import pytest
from gearvisor import reference
from gearvisor.client import Client
from gearvisor.errors import JobException, JobFailed


@pytest.fixture
def client(shared_server, serve):
    serve([shared_server.address], reference.FUNCTIONS)
    with Client([shared_server.address], timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("function", "payload", "result"),
    [
        ("reverse", b"abc\0", b"\0cba"),
        ("reverse_python", b"abc", b"cba"),
        ("echo", b"\xff\0", b"\xff\0"),
        ("sleep", b"0.01", b"0.01"),
        ("sleep", b" 0 ", b"0"),
    ],
)
def test_result(client, function, payload, result):
    assert client.submit(function, payload).data == result


@pytest.mark.parametrize("payload", [b"", b"soon", b"-1", b"nan"])
def test_sleep_refuses_what_is_no_time(client, payload):
    with pytest.raises(JobException, match="ValueError"):
        client.submit("sleep", payload)


def test_sleep_is_an_hour_at_most(client, monkeypatch):
    slept = []
    monkeypatch.setattr(reference.time, "sleep", slept.append)
    assert client.submit("sleep", b"1e9").data == b"3600"
    assert slept == [3600]


def test_fail(client):
    with pytest.raises(JobFailed):
        client.submit("fail")
    with pytest.raises(JobException, match=r"^RuntimeError: disk full$"):
        client.submit("fail", b"disk full")
