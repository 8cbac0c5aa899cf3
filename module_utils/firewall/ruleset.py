# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table that guards the ports of the job server and of the exporter, as text. All pure.

It is a separate table, so no other rules are read, changed or flushed. Its chains look at these ports
only; what they accept other tables can still refuse, what they refuse is final.
"""

from __future__ import annotations

import ipaddress
import pwd
import re
from typing import NamedTuple

from ..failure import InvalidOption

FAMILY, TABLE = "inet", "gearvisor"
FILE = "/etc/gearvisor/firewall.nft"
NFT = "/usr/sbin/nft"

MARK = "# Written by Ansible (Gearvisor, gearman_firewall). Changes made here are lost."


def check_ports(option, ports, ssh_ports):
    """Refuse ports that would lock users out; *ssh_ports* are those of this host's SSH servers."""
    for port in ports:
        if not 1 <= port <= 65535:
            raise InvalidOption(option, port, "is not a port", "Use 1 to 65535")
        if port in ssh_ports:
            raise InvalidOption(
                option,
                port,
                "is SSH's, and guarding it could lock you out",
                "Name the ports of gearmand, its tunnel and the exporter only",
            )


def user_ids(users):
    """Return the ids of the users, by name or number, sorted; raises InvalidOption."""
    found = set()
    for user in users:
        try:
            found.add(
                int(user) if re.fullmatch(r"[0-9]{1,10}", user) else pwd.getpwnam(user).pw_uid
            )
        except (KeyError, ValueError, UnicodeError):
            raise InvalidOption(
                "local_users", user, "is not a user of this host", "Create it first, or correct it"
            ) from None
    return sorted(found)


def check_extra_lines(lines):
    """Refuse lines that are more than one rule each; nft itself checks their content."""
    for line in lines:
        # Braces would leave the chain, and a semicolon starts another statement.
        if not re.match(r"[\x20-\x3a\x3c-\x7e]+\Z", line) or line.count("{") != line.count("}"):
            raise InvalidOption(
                "extra_lines", line, "is not a single rule", "Write one rule of nft(8) a line"
            )
        depth = 0
        for character in line:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth < 0:
                raise InvalidOption(
                    "extra_lines", line, "closes a brace that it has not opened", "Correct it"
                )


def typed_networks(networks):
    """Return the option networks as ip_network objects; raises InvalidOption."""
    result = []
    for network in networks:
        try:
            result.append(ipaddress.ip_network(network))
        except ValueError as error:
            raise InvalidOption(
                "networks",
                network,
                f"is not a network ({error})",
                "Use for example 192.0.2.0/24 or fd00::/64",
            ) from None
    return result


def addresses_of(hosts, resolve):
    """Return the networks of {host: [address or name]}; raises InvalidOption that names the host.

    *resolve* gives the IP addresses, as text, of a name that is not an address; none if it has none.
    """
    result = []
    for host, given in sorted(hosts.items()):
        if not isinstance(given, list) or not given:
            raise _no_address(host, given, "is not a list of addresses")
        for address in given:
            if not isinstance(address, str) or re.search(r"[^\x21-\x7e]", address) or not address:
                raise _no_address(host, address, "is not an address, which is a text in quotes")
            found = _networks_of(address, resolve)
            if not found:
                raise _no_address(host, address, "is not an IP address, and does not resolve here")
            result += found
    return result


def monitors(given, resolve):
    """Return the networks of the option monitoring_networks: addresses, networks and names; raises InvalidOption."""
    result = []
    for one in given:
        found = [] if re.search(r"[^\x21-\x7e]", one) or not one else _networks_of(one, resolve)
        if not found:
            raise InvalidOption(
                "monitoring_networks",
                one,
                "is not an address or a network, and does not resolve here",
                "Use for example 192.0.2.130, fd00::/64 or the name of Prometheus's host",
            )
        result += found
    return result


def _networks_of(text, resolve):
    try:
        return [ipaddress.ip_network(text)]
    except ValueError:
        return [ipaddress.ip_network(address) for address in resolve(text)]


def _no_address(host, value, problem):
    return InvalidOption(
        f"hosts.{host}",
        value,
        problem,
        f"Set gearman_firewall_addresses of {host} in the inventory to the IP addresses it comes from",
        host=host,
        variable="gearman_firewall_addresses",
    )


class Guard(NamedTuple):
    """Ports, and the networks from which they can be reached."""

    ports: tuple
    networks: tuple


NOTHING = Guard((), ())


def table_text(jobs, monitoring, local_users=(), extra_lines=()):
    """Return what nft loads: it replaces the table in one step, or leaves it as it is.

    *jobs* and *monitoring* are the Guards of the job server's ports and of the exporter's; either may have no
    ports. *local_users*: ids of the only users of this host that may connect to the job server over the
    loopback, empty for all. *extra_lines*: rules that come before the job server's refusal.
    """
    guards = [
        (guard, *names)
        for guard, *names in (
            (jobs, "allowed", "guarded", extra_lines),
            (monitoring, "monitoring", "watched", ()),
        )
        if guard.ports
    ]
    sets = "".join(_sets(name, guard.networks) for guard, name, _chain, _lines in guards)
    jumps = "".join(
        f"        tcp dport {{ {_ports(guard)} }} jump {chain}\n"
        for guard, _name, chain, _lines in guards
    )
    chains = "\n".join(_chain(chain, name, lines) for _guard, name, chain, lines in guards)
    return f"""#!{NFT} -f
{MARK}

# The first line makes sure that there is something to delete.
table {FAMILY} {TABLE}
delete table {FAMILY} {TABLE}

table {FAMILY} {TABLE} {{
{sets}    chain input {{
        type filter hook input priority filter - 5; policy accept;
{jumps}    }}

{chains}{_local_chains(jobs, local_users)}}}
"""


def _ports(*guards):
    return ", ".join(str(port) for port in sorted({port for one in guards for port in one.ports}))


def _sets(name, networks):
    # Loopback has a separate rule.
    outside = [network for network in networks if not network.is_loopback]
    found = {
        version: ipaddress.collapse_addresses(n for n in outside if n.version == version)
        for version in (4, 6)
    }
    return "".join(
        f"""    set {name}{version} {{
        type ipv{version}_addr
        flags interval
{_elements([str(_bare(network)) for network in found[version]])}    }}

"""
        for version in (4, 6)
    )


def _chain(chain, name, lines):
    return f"""    chain {chain} {{
        iif "lo" accept
        ip saddr @{name}4 accept
        ip6 saddr @{name}6 accept
{"".join(f"        {line}{chr(10)}" for line in lines)}        reject with tcp reset
    }}
"""


def _local_chains(jobs, local_users):
    if not local_users or not jobs.ports:
        return ""
    users = ", ".join(map(str, local_users))
    # The sender of a packet is known on its way out only.
    return f"""
    chain output {{
        type filter hook output priority filter - 5; policy accept;
        oif "lo" tcp dport {{ {_ports(jobs)} }} jump local
    }}

    chain local {{
        meta skuid {{ {users} }} accept
        reject with tcp reset
    }}
"""


def _bare(network):
    return network.network_address if network.num_addresses == 1 else network


def _elements(texts):
    if not texts:
        return ""
    lines = (",\n" + " " * 21).join(texts)
    return f"        elements = {{ {lines} }}\n"


# What must not run without the allow-list.
JOB_UNITS = ("gearman-job-server.service", "gearman-tunnel.service")
MONITORING_UNITS = ("gearvisor-exporter.service",)
UNITS = JOB_UNITS + MONITORING_UNITS


def guarded_units(jobs=NOTHING, monitoring=NOTHING):
    """Return the names of the units that must not run without the allow-list of these Guards."""
    return (JOB_UNITS if jobs.ports else ()) + (MONITORING_UNITS if monitoring.ports else ())


def unit_text(units):
    """Return the systemd unit that loads the table before what it guards is started.

    What it guards requires it, so when it cannot be loaded, that is not started; and when the unit is
    stopped, that is stopped first.
    """
    guarded = " ".join(units)
    return f"""{MARK}
[Unit]
Description=Allow-list of Gearvisor
Documentation=man:nft(8)
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target nftables.service
Before=network-pre.target shutdown.target {guarded}
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={NFT} --file {FILE}
ExecReload={NFT} --file {FILE}
ExecStop=-{NFT} delete table {FAMILY} {TABLE}

[Install]
WantedBy=sysinit.target
RequiredBy={guarded}
"""


def drop_in_text():
    """Return the drop-in of Debian's nftables.service.

    That flushes all tables when it starts, stops or reloads; this loads Gearvisor's again at once.
    """
    again = f"-/bin/sh -c 'if systemctl --quiet is-active gearman-firewall; then exec {NFT} --file {FILE}; fi'"
    return f"""{MARK}
[Service]
ExecStartPost={again}
ExecReload={again}
ExecStopPost={again}
"""


def init_script(*guards):
    """Return the init script that loads the table at boot on hosts without systemd.

    When it cannot be loaded, a table that lets only the loopback in takes its place.
    """
    guarded = _ports(*guards)
    return f"""#!/bin/sh
{MARK}
### BEGIN INIT INFO
# Provides:          gearman-firewall
# Required-Start:    $local_fs
# Required-Stop:     $local_fs
# Should-Start:      nftables
# X-Start-Before:    supervisor gearman-job-server
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Allow-list of Gearvisor
### END INIT INFO

load() {{
    {NFT} --file {FILE} && return
    echo "gearman-firewall: {FILE} cannot be loaded, so only this host may connect" >&2
    {NFT} --file - <<'END'
table {FAMILY} {TABLE}
delete table {FAMILY} {TABLE}
table {FAMILY} {TABLE} {{
    chain input {{
        type filter hook input priority filter - 5; policy accept;
        iif != "lo" tcp dport {{ {guarded} }} reject with tcp reset
    }}
}}
END
    return 1
}}

case "$1" in
    start | restart | reload | force-reload) load ;;
    stop) {NFT} delete table {FAMILY} {TABLE} 2>/dev/null || true ;;
    status) {NFT} list table {FAMILY} {TABLE} ;;
    *)
        echo "Usage: $0 start|stop|restart|reload|force-reload|status" >&2
        exit 2
        ;;
esac
"""
