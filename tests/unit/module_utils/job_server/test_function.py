"""Values as tables; the rest against a real gearmand."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import Admin
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
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    config,
    function,
    options,
)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("name", {"name": ""}),
        ("name", {"name": "two words"}),
        ("name", {"name": "x\n"}),
        ("max_queue", {"name": "f", "max_queue": []}),
        ("max_queue", {"name": "f", "max_queue": [1, 2]}),
        ("max_queue", {"name": "f", "max_queue": [-1]}),
        ("max_queue", {"name": "f", "max_queue": [2**31]}),
        ("max_queue", {"name": "f", "max_queue": [1], "state": "absent"}),
        ("servers", {"name": "f", "servers": ["host:port"]}),
    ],
)
def test_refused(option, values):
    with pytest.raises(InvalidOption) as caught:
        function.check(function.Request(**values))
    assert caught.value.details["option"] == option


@pytest.fixture
def host(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("the file of limits belongs to root")
    (tmp_path / "etc/gearman").mkdir(parents=True)
    return Host(None, root=str(tmp_path))


@pytest.fixture
def server(gearmand, port, host):
    """This host's own job server."""
    with open(host.path(config.CONFIG), "w", encoding="utf-8") as file:
        file.write(config.config_text(options.Settings(port=port)))
    return f"127.0.0.1:{port}"


@pytest.fixture
def converge(host):
    """Call it with the module's options; it returns the module's result."""

    def do(name="resize", check_mode=False, **given):
        params = {"name": name, "state": "present", "cancel": False, **given}
        outcome = function.converge(params, Host(None, check_mode, root=host.root))
        return {**outcome.as_result(), "warnings": outcome.warnings}

    return do


@pytest.fixture
def kept(host):
    """Call it for the limits that are set again after each start."""

    def read():
        with open(host.path(config.MAX_QUEUE), encoding="utf-8") as file:
            return json.load(file)

    return read


def submit(server, number, name="resize"):
    with Client([server]) as client:
        for _ in range(number):
            client.submit(name, background=True)


def test_a_limit_is_set_and_kept(server, converge, kept, host):
    planned = converge(max_queue=[2], check_mode=True)
    assert planned["changed"]
    assert not os.path.exists(host.path(config.MAX_QUEUE))
    result = converge(max_queue=[2])
    assert result["changed"]
    assert result["kept"]
    assert result["servers"] == [server]
    assert result["actions"] == [f"create resize on {server}"]
    assert kept() == {"resize": [2]}
    with pytest.raises(SubmitError, match="full"):
        submit(server, 3)
    assert not converge(max_queue=[2])["changed"]
    assert not converge()["changed"]
    converge("mail", max_queue=[9, 8, 7])
    assert kept() == {"mail": [9, 8, 7], "resize": [2]}
    assert converge(max_queue=[0])["changed"]
    assert kept() == {"mail": [9, 8, 7]}
    submit(server, 3)


def test_a_limit_that_others_changed_is_set_again(server, converge):
    converge(max_queue=[2])
    with Admin(server) as admin:
        admin.max_queue("resize", 0)
    assert not converge(max_queue=[2])["changed"]
    with pytest.raises(SubmitError, match="full"):
        submit(server, 3)


def test_on_a_server_of_another_host_it_is_not_kept(server, converge, host):
    os.unlink(host.path(config.CONFIG))
    result = converge(max_queue=[2], servers=[server])
    assert not result["kept"]
    assert "forgets max_queue" in result["warnings"][0]
    assert not os.path.exists(host.path(config.MAX_QUEUE))
    with pytest.raises(SubmitError, match="full"):
        submit(server, 3)
    with pytest.raises(InvalidOption, match="no job server on this host"):
        converge()
    # A first run in check mode, when there is nothing yet.
    assert "no job server on this host yet" in converge(check_mode=True)["warnings"][0]


def test_absent(server, converge, kept):
    converge(max_queue=[9])
    submit(server, 3)
    with pytest.raises(InvalidOption, match="would lose 3 waiting jobs"):
        converge(state="absent")
    assert kept() == {"resize": [9]}
    result = converge(state="absent", cancel=True)
    assert result["changed"]
    assert result["cancelled"] == 3
    assert kept() == {}
    with Admin(server) as admin:
        assert admin.status() == {}
    assert not converge(state="absent", cancel=True)["changed"]


def test_what_is_served_is_not_dropped(server, port, converge):
    worker = Connection("127.0.0.1", port, 60)
    worker.send(encode(Packet.SET_CLIENT_ID, b"web1") + encode(Packet.CAN_DO, b"resize"))
    worker.send(encode(Packet.ECHO_REQ, b""))
    worker.receive(60)
    with pytest.raises(InvalidOption, match=r"has workers on .*: web1"):
        converge(state="absent", cancel=True)
    worker.close()


def test_cancelling_keeps_the_function(server, converge):
    submit(server, 3)
    submit(server, 2, "other")
    planned = converge(cancel=True, check_mode=True)
    assert planned["actions"] == [f"cancel 3 waiting jobs of resize on {server}"]
    assert converge(cancel=True)["cancelled"] == 3
    assert not converge(cancel=True)["changed"]
    with Admin(server) as admin:
        assert {name: jobs.queued for name, jobs in admin.status().items()} == {
            "resize": 0,
            "other": 2,
        }


def test_a_server_that_does_not_answer(server, gearmand, converge, host):
    gearmand.kill()
    gearmand.wait()
    with pytest.raises(GearvisorError, match="does not answer"):
        converge(max_queue=[3])
    assert not os.path.exists(host.path(config.MAX_QUEUE))
