# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table that guards the job server's ports, as text. All pure.

It is a table of our own, so nobody else's rules are read, changed or flushed. Its chain looks at
our ports only, and accepting there leaves the last word to other tables; refusing is final.
"""

from __future__ import annotations

import ipaddress

from ..failure import InvalidOption

FAMILY, TABLE = "inet", "gearvisor"
FILE = "/etc/gearvisor/firewall.nft"
NFT = "/usr/sbin/nft"
SSH = 22

MARK = "# Written by Ansible (Gearvisor, gearman_firewall). Changes made here are lost."


def check_ports(ports, ssh_connection):
    """Refuse ports that would lock somebody out; *ssh_connection* is sshd's SSH_CONNECTION or ""."""
    if not ports:
        raise InvalidOption("ports", ports, "is empty", "Name the ports to guard, or use absent")
    words = ssh_connection.split()
    taken = {SSH, int(words[3])} if len(words) == 4 and words[3].isdigit() else {SSH}
    for port in ports:
        if not 1 <= port <= 65535:
            raise InvalidOption("ports", port, "is no port", "Use 1 to 65535")
        if port in taken:
            raise InvalidOption(
                "ports",
                port,
                "is SSH's, and guarding it could lock you out",
                "Name the ports of gearmand and its tunnel only",
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
                f"is no network ({error})",
                "Use 192.0.2.0/24 or fd00::/64, say",
            ) from None
    return result


def addresses_of(hosts, resolve):
    """Return the networks of {host: [address or name]}; raises InvalidOption that names the host.

    *resolve* gives the IP addresses, as text, of a name that is no address; none if it has none.
    """
    result = []
    for host, given in sorted(hosts.items()):
        if not isinstance(given, list) or not given:
            raise _no_address(host, given, "is no list of addresses")
        for address in given:
            try:
                result.append(ipaddress.ip_network(address))
                continue
            except ValueError:
                pass
            found = [ipaddress.ip_address(text) for text in resolve(address)]
            if not found:
                raise _no_address(host, address, "is no IP address, and does not resolve here")
            result += [ipaddress.ip_network(str(one)) for one in found]
    return result


def _no_address(host, value, problem):
    return InvalidOption(
        f"hosts.{host}",
        value,
        problem,
        f"Set gearman_firewall_addresses of {host} in the inventory to the IP addresses it comes from",
        host=host,
        variable="gearman_firewall_addresses",
    )


def table_text(ports, networks):
    """Return what nft loads: it replaces the table in one step, or leaves it as it is."""
    guarded = ", ".join(str(port) for port in sorted(set(ports)))
    # Loopback has a rule of its own.
    outside = [network for network in networks if not network.is_loopback]
    sets = {
        version: ipaddress.collapse_addresses(n for n in outside if n.version == version)
        for version in (4, 6)
    }
    elements = {version: [str(_bare(n)) for n in found] for version, found in sets.items()}
    return f"""#!{NFT} -f
{MARK}

# The first line makes sure that there is something to delete.
table {FAMILY} {TABLE}
delete table {FAMILY} {TABLE}

table {FAMILY} {TABLE} {{
	set allowed4 {{
		type ipv4_addr
		flags interval
{_elements(elements[4])}	}}

	set allowed6 {{
		type ipv6_addr
		flags interval
{_elements(elements[6])}	}}

	chain input {{
		type filter hook input priority filter - 5; policy accept;
		tcp dport {{ {guarded} }} jump guarded
	}}

	chain guarded {{
		iif "lo" accept
		ip saddr @allowed4 accept
		ip6 saddr @allowed6 accept
		reject with tcp reset
	}}
}}
"""


def _bare(network):
    return network.network_address if network.num_addresses == 1 else network


def _elements(texts):
    if not texts:
        return ""
    lines = ",\n\t\t\t     ".join(texts)
    return f"\t\telements = {{ {lines} }}\n"


def unit_text():
    """Return the systemd unit that loads the table at boot.

    Debian's nftables.service flushes everything when it starts, stops or reloads: ours follows it.
    """
    return f"""{MARK}
[Unit]
Description=Allow-list of the Gearman job server
Documentation=man:nft(8)
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target nftables.service
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={NFT} --file {FILE}
ExecReload={NFT} --file {FILE}
ExecStop=-{NFT} delete table {FAMILY} {TABLE}

[Install]
WantedBy=sysinit.target nftables.service
"""


def init_script():
    """Return the init script that loads the table at boot where there is no systemd."""
    return f"""#!/bin/sh
{MARK}
### BEGIN INIT INFO
# Provides:          gearman-firewall
# Required-Start:    $local_fs
# Required-Stop:     $local_fs
# Should-Start:      nftables
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Allow-list of the Gearman job server
### END INIT INFO

case "$1" in
    start | restart | reload | force-reload) {NFT} --file {FILE} ;;
    stop) {NFT} delete table {FAMILY} {TABLE} 2>/dev/null || true ;;
    status) {NFT} list table {FAMILY} {TABLE} ;;
    *)
        echo "Usage: $0 start|stop|restart|reload|force-reload|status" >&2
        exit 2
        ;;
esac
"""
