# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that stunnel gets."""

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel import stunnel

SERVE = {
    "listen": "192.0.2.11",
    "port": 4731,
    "job_server": "127.0.0.1:4730",
    "name": "job1",
    "clients": ["worker2", "worker1"],
}
SERVER = {"name": "job2", "address": "192.0.2.12", "port": 4731, "local_port": 4741}


def lines(serve=None, servers=()):
    return stunnel.config_text(stunnel.typed_settings(serve, servers)).splitlines()


def section(wanted, *arguments):
    text = lines(*arguments)
    start = text.index(f"[{wanted}]") + 1
    return text[start : text.index("", start) if "" in text[start:] else None]


def test_a_job_server_lets_the_listed_names_in():
    assert section("job-server", SERVE) == [
        "accept = 192.0.2.11:4731",
        "connect = 127.0.0.1:4730",
        "checkHost = job1",
        "checkHost = worker1",
        "checkHost = worker2",
    ]


def test_the_inventorys_order_is_no_change():
    assert lines(SERVE) == lines({**SERVE, "clients": ["worker1", "worker2", "job1"]})


def test_a_client_looks_for_the_servers_name():
    assert section("to-job2", None, [SERVER]) == [
        "client = yes",
        "accept = 127.0.0.1:4741",
        "connect = 192.0.2.12:4731",
        "delay = yes",
        "checkHost = job2",
    ]


def test_ipv6_goes_without_brackets():
    serve = {**SERVE, "listen": "2001:db8::b", "job_server": "[::1]:4730"}
    assert section("job-server", serve)[:2] == ["accept = 2001:db8::b:4731", "connect = ::1:4730"]


def test_an_address_is_looked_for_where_certificates_have_it():
    serve = {**SERVE, "name": "192.0.2.11", "clients": ["2001:db8::16", "worker1"]}
    assert section("job-server", serve)[2:] == [
        "checkIP = 192.0.2.11",
        "checkIP = 2001:db8::16",
        "checkHost = worker1",
    ]
    assert section("to-192.0.2.12", None, [{**SERVER, "name": "192.0.2.12"}])[-1] == (
        "checkIP = 192.0.2.12"
    )


def test_pinned_peers_are_asked_for():
    plain = stunnel.config_text(stunnel.typed_settings(SERVE, []))
    pinned = stunnel.config_text(stunnel.typed_settings(SERVE, [], pinned=True))
    assert f"CAfile = {stunnel.CA}\n" in plain and "verifyPeer" not in plain
    assert f"CAfile = {stunnel.TRUSTED}\nverifyChain = yes\nverifyPeer = yes\n" in pinned


@pytest.mark.parametrize(("serve", "level"), [(SERVE, "notice"), (None, "warning")])
def test_a_job_servers_log_has_its_clients(serve, level):
    assert f"debug = {level}" in lines(serve, [SERVER])


@pytest.mark.parametrize(
    "line", ["verifyChain = yes", "requireCert = yes", "sslVersionMin = TLSv1.2"]
)
def test_both_sides_prove_who_they_are(line):
    before_sections = lines(SERVE, [SERVER])
    assert line in before_sections[: before_sections.index("[job-server]")]


def test_idle_limit_fits_into_stunnels_milliseconds():
    assert 7 * 24 * 3600 < stunnel.IDLE_SECONDS < 2**31 / 1000


@pytest.mark.parametrize(
    "option, serve, servers",
    [
        ("servers", None, []),
        ("serve.port", {**SERVE, "port": 731}, []),
        ("serve.name", {**SERVE, "name": "*.example.org"}, []),
        ("serve.clients", {**SERVE, "clients": ["a\ncheckHost = b"]}, []),
        ("serve.listen", {**SERVE, "listen": "192.0.2.11 "}, []),
        ("serve.job_server", {**SERVE, "job_server": "127.0.0.1"}, []),
        ("serve.job_server", {**SERVE, "job_server": "127.0.0.1:99999"}, []),
        ("serve.name", {**SERVE, "name": "a" * 254}, []),
        ("servers.name", None, [{**SERVER, "name": "a]"}]),
        ("servers.address", None, [{**SERVER, "address": "192.0.2.12\nexec = /bin/sh"}]),
        ("servers.port", None, [{**SERVER, "port": 65536}]),
        ("servers.local_port", None, [{**SERVER, "local_port": 80}]),
        ("servers.local_port", None, [SERVER, {**SERVER, "name": "job3"}]),
        ("servers.name", None, [SERVER, {**SERVER, "local_port": 4742}]),
    ],
)
def test_bad_values_are_refused(option, serve, servers):
    with pytest.raises(InvalidOption) as refused:
        stunnel.typed_settings(serve, servers)
    assert refused.value.details["option"] == option


@pytest.mark.parametrize("in_container", [True, False])
def test_systemd_filters_calls_but_in_a_container(in_container):
    """There Debian 13's systemd could not start it; what needs no filter holds everywhere."""
    text = stunnel.unit_text(in_container)
    assert ("RestrictAddressFamilies=" in text) is not in_container
    assert "CapabilityBoundingSet=\nNoNewPrivileges=true\n" in text
    assert "User=stunnel4\n" in text
