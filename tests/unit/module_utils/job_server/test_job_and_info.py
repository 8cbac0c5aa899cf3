"""The modules gearman_job and gearman_info: what they refuse, in check mode, too; a real gearmand."""

from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import Admin
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.connection import (
    Connection,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.protocol import (
    Packet,
    encode,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import info, job
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server.sentinels import (
    Sentinels,
)

SERVERS = ["127.0.0.1:4730"]
JOB = {
    "function": "resize",
    "data": None,
    "data_base64": None,
    "servers": SERVERS,
    "background": False,
    "priority": "normal",
    "unique": None,
    "timeout": 10.0,
    "expect": None,
}


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 3601.0])
def test_seconds_that_cannot_be(timeout):
    with pytest.raises(InvalidOption, match="timeout"):
        info.gather({"servers": SERVERS, "timeout": timeout}, Host(None))
    with pytest.raises(InvalidOption, match="timeout"):
        job.submit({**JOB, "timeout": timeout}, Host(None, check_mode=True))


@pytest.mark.parametrize("servers", [[], ["localhost:port"], ["127.0.0.1:70000"], ["a\0b:1"]])
def test_servers_that_cannot_be(servers):
    with pytest.raises(InvalidOption, match="servers"):
        info.gather({"servers": servers, "timeout": 5.0}, Host(None))
    with pytest.raises(InvalidOption, match="servers"):
        job.submit({**JOB, "servers": servers}, Host(None, check_mode=True))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("function", {"function": ""}),
        ("function", {"function": "a\0b"}),
        ("function", {"function": "\udcff"}),
        ("function", {"function": "x" * 513}),
        ("unique", {"unique": "x" * 64}),
        ("unique", {"unique": "\udcff"}),
        ("data", {"data": "\udcff"}),
        ("data_base64", {"data_base64": "no base64"}),
        ("data_base64", {"data_base64": "\u00fc"}),
        ("expect", {"expect": "x", "background": True}),
        ("expect", {"expect": "\udcff"}),
    ],
)
def test_values_are_checked_in_check_mode(option, values):
    with pytest.raises(InvalidOption) as caught:
        job.submit({**JOB, **values}, Host(None, check_mode=True))
    assert caught.value.details["option"] == option


def test_nothing_is_submitted_in_check_mode():
    outcome = job.submit(JOB, Host(None, check_mode=True))
    assert outcome.details["skipped"]
    assert not outcome.changed


def gathered(port):
    (found,) = info.gather({"servers": [f"127.0.0.1:{port}"], "timeout": 5.0}, Host(None)).details[
        "servers"
    ]
    return found


def test_info(gearmand, port):
    with Admin(f"127.0.0.1:{port}") as admin:
        worker = Connection("127.0.0.1", port, 60)
        worker.send(encode(Packet.CAN_DO, b"send mail") + encode(Packet.ECHO_REQ, b"x"))
        worker.receive(60)
        admin.create("closed")
        # A function that is being closed has no client's job.
        Sentinels(admin).add("closed", 2**31)
        assert admin.status()["closed"].queued == 1
        found = gathered(port)
        worker.close()
    assert found["reachable"]
    assert found["functions"]["closed"]["queued"] == 0
    assert found["functions"]["send mail"]["workers"] == 1


def test_info_of_none(port):
    found = gathered(port)
    assert not found["reachable"]
    assert found["error"]
