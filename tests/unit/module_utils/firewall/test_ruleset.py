# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The allow-list as text."""

import ipaddress

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.firewall import ruleset


def networks(*texts):
    return [ipaddress.ip_network(text) for text in texts]


def table(ports, allowed=(), **options):
    none = ruleset.Guard((), ())
    return ruleset.table_text(ruleset.Guard(tuple(ports), tuple(allowed)), none, **options)


def elements(text, name):
    _before, _set, rest = text.partition(f"set {name} {{")
    body = rest.partition("}\n\n")[0]
    if "elements" not in body:
        return []
    inner = body.partition("elements = {")[2].partition("}")[0]
    return [element.strip() for element in inner.split(",")]


@pytest.mark.parametrize(
    "given, allowed4, allowed6",
    [
        ([], [], []),
        (["192.0.2.9"], ["192.0.2.9"], []),
        (["2001:db8::1", "192.0.2.9"], ["192.0.2.9"], ["2001:db8::1"]),
        # nft refuses a set whose elements overlap.
        (["192.0.2.9", "192.0.2.0/24", "192.0.2.9"], ["192.0.2.0/24"], []),
        (["127.0.0.1", "::1", "127.0.1.1"], [], []),
    ],
)
def test_elements(given, allowed4, allowed6):
    text = table([4730], networks(*given))
    assert elements(text, "allowed4") == allowed4
    assert elements(text, "allowed6") == allowed6


def test_order_of_the_inventory_is_no_change():
    one = table([4730, 4731], networks("192.0.2.9", "192.0.2.7"))
    assert one == table([4731, 4730, 4730], networks("192.0.2.7", "192.0.2.9"))


def test_only_our_ports_are_ever_looked_at():
    text = table([4730, 4731], networks("192.0.2.9"))
    chain = text.partition("chain input {")[2].partition("}\n\n")[0].rstrip("\t}")
    assert [line.strip() for line in chain.strip().splitlines()] == [
        "type filter hook input priority filter - 5; policy accept;",
        "tcp dport { 4730, 4731 } jump guarded",
    ]


@pytest.mark.parametrize(
    "ports", [[22], [4730, 22], [2222], [0], [65536]], ids=lambda ports: repr(ports)
)
def test_ports_that_could_lock_out_are_refused(ports):
    with pytest.raises(InvalidOption, match=r"^ports: "):
        ruleset.check_ports("ports", ports, {22, 2222})


def test_gearmans_ports_are_not():
    ruleset.check_ports("ports", [4730, 4731], {22, 2222})


def test_users_are_known_by_name_or_number():
    assert ruleset.user_ids(["0", "root", "4711"]) == [0, 4711]
    for user in ("no-such-user", "", "-1", "root\udc80"):
        with pytest.raises(InvalidOption, match=r"^local_users: "):
            ruleset.user_ids([user])


def test_without_local_users_nothing_leaves_another_way():
    assert "hook output" not in table([4730])
    text = table([4730], local_users=[0, 4711])
    assert "meta skuid { 0, 4711 } accept" in text


@pytest.mark.parametrize(
    "line", ["}", "} chain x {", "accept; drop", "accept\ndrop", "", "é", "{ }}{"]
)
def test_extra_lines_stay_in_their_chain(line):
    with pytest.raises(InvalidOption, match=r"^extra_lines: "):
        ruleset.check_extra_lines([line])


def test_names_are_resolved_and_addresses_taken():
    found = ruleset.addresses_of(
        {"w1": ["192.0.2.1", "10.0.0.0/8"], "w2": ["w2.example.org"]},
        {"w2.example.org": ["192.0.2.2", "2001:db8::2"]}.get,
    )
    assert found == networks("192.0.2.1", "10.0.0.0/8", "192.0.2.2", "2001:db8::2")


@pytest.mark.parametrize(
    "given",
    [
        ["w2.example.org"],
        [],
        "192.0.2.1",
        None,
        ["192.0.2.0/33"],
        [10.5],
        [5],
        [""],
        ["a b"],
        ["a\0b"],
    ],
)
def test_no_address_names_host_and_variable(given):
    with pytest.raises(
        InvalidOption, match=r"^hosts\.w2: .*gearman_firewall_addresses of w2"
    ) as no:
        ruleset.addresses_of({"w1": ["192.0.2.1"], "w2": given}, lambda name: [])
    assert no.value.details["host"] == "w2"


@pytest.mark.parametrize("network", ["192.0.2.1/24", "example.org", ""])
def test_bad_networks_are_refused(network):
    with pytest.raises(InvalidOption, match=r"^networks: "):
        ruleset.typed_networks(["192.0.2.0/24", network])
