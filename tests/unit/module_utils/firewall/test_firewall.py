# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The allow-list with the real nft, in a network of the test's own."""

import os
import re
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.firewall import firewall, ruleset
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host


def permitted():
    command = ["unshare", "--net", ruleset.NFT, "list", "ruleset"]
    return (
        os.path.exists(ruleset.NFT) and subprocess.run(command, capture_output=True).returncode == 0
    )


pytestmark = pytest.mark.skipif(not permitted(), reason="needs nftables and a network of its own")


class Machine:
    """A host with a network namespace, nft, and a service manager that only notes what it is told."""

    def __init__(self, root, systemd):
        self.root = root
        self.told = []
        self.links = root / "etc/systemd/system"
        if systemd:
            (root / "run/systemd/system").mkdir(parents=True)
        (root / "etc/rc2.d").mkdir(parents=True)
        self.namespace = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; cat"], stdin=-1, stdout=-1
        )
        self.namespace.stdout.readline()

    def run(self, argv, data=None, **_):
        if argv[0] == ruleset.NFT:
            return self.inside(argv, data)
        if argv[0] == "dpkg-query":
            return 0, "ii  nftables 1.0\n", ""
        self.told.append(" ".join(argv))
        if argv[:2] == ["systemctl", "show"]:
            active = any("start" in line.split() for line in self.told)
            values = {"LoadState": "loaded"}
            if active:
                values.update(ActiveState="active", UnitFileState="enabled")
            asked = argv[2].partition("=")[2].split(",")
            return 0, "".join(f"{name}={values[name]}\n" for name in asked if name in values), ""
        if "reenable" in argv:
            for unit in self.required_by():
                (self.links / f"{unit}.requires").mkdir(parents=True, exist_ok=True)
                (self.links / f"{unit}.requires" / firewall.UNIT).symlink_to("x")
        if argv[:1] == ["update-rc.d"]:
            (self.root / "etc/rc2.d/S01gearman-firewall").touch()
        return 0, "", ""

    def required_by(self):
        """As systemctl reenable does: the links of the unit file, and no others."""
        for link in self.links.glob("*.requires/*"):
            link.unlink()
        return re.findall(
            r"(?m)^RequiredBy=(.*)$", (self.root / firewall.UNIT_FILE[1:]).read_text()
        )[0].split()

    def inside(self, argv, data=None):
        enter = ["nsenter", f"--net=/proc/{self.namespace.pid}/ns/net", *argv]
        done = subprocess.run(enter, input=data, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def converge(self, check_mode=False, **options):
        params = {"ports": [4730], "hosts": {"w1": ["192.0.2.1", "2001:db8::1"]}, **options}
        host = Host(self.run, check_mode, root=str(self.root))
        return firewall.converge(firewall.Request(**params), host)

    def table(self):
        return self.inside([ruleset.NFT, "list", "table", "inet", "gearvisor"])[1]

    def answers(self, port, user=None):
        """Return whether a connection to the port on the loopback is accepted."""
        code = (
            "import os, socket, sys\n"
            f"server = socket.create_server(('127.0.0.1', {port}))\n"
            f"user = {user!r}\n"
            "if user is not None: os.setuid(user)\n"
            f"print(socket.socket().connect_ex(('127.0.0.1', {port})))\n"
        )
        return self.inside(["python3", "-c", code])[1].strip() == "0"


@pytest.fixture(params=[True, False], ids=["systemd", "plain"])
def machine(request, tmp_path):
    made = Machine(tmp_path, request.param)
    yield made
    made.namespace.communicate(b"")


def test_it_is_loaded_once_and_then_left_alone(machine):
    checked = machine.converge(check_mode=True)
    assert (
        checked.changed and machine.table() == "" and not (machine.root / "etc/gearvisor").exists()
    )
    umask = os.umask(0o077)
    try:
        machine.converge()
    finally:
        os.umask(umask)
    assert "192.0.2.1" in machine.table() and "2001:db8::1" in machine.table()
    for path in ("etc/gearvisor", "etc/gearvisor/firewall.nft"):
        assert (machine.root / path).stat().st_mode & 0o004
    again = machine.converge()
    assert (again.changed, again.actions) == (False, [])


@pytest.mark.parametrize(
    "command",
    [["flush", "ruleset"], ["delete", "element", "inet", "gearvisor", "allowed4", "{ 192.0.2.1 }"]],
)
def test_what_others_changed_is_put_back(machine, command):
    machine.converge()
    assert machine.inside([ruleset.NFT, *command])[0] == 0
    assert machine.converge().actions == [
        "load the allow-list again: it was changed or flushed by others"
    ]
    assert "192.0.2.1" in machine.table()


def test_other_tables_stay(machine):
    machine.inside([ruleset.NFT, "add", "table", "inet", "other"])
    machine.converge()
    machine.converge(state="absent")
    tables = machine.inside([ruleset.NFT, "list", "tables"])[1].split()
    assert tables == ["table", "inet", "other"]
    assert not (machine.root / "etc/gearvisor").exists()
    assert not machine.converge(state="absent").changed


@pytest.mark.parametrize("line", ["nonsense", "tcp dport { 1, accept"])
def test_rules_that_nft_refuses_change_nothing(machine, line):
    machine.converge()
    before = machine.table()
    for check_mode in (True, False):
        with pytest.raises(InvalidOption, match=r"^extra_lines: "):
            machine.converge(check_mode, extra_lines=[line])
    assert machine.table() == before


def test_extra_rules_come_before_the_refusal(machine):
    machine.converge(extra_lines=["ip saddr 198.51.100.7 tcp dport { 4730 } accept"])
    table = machine.table()
    assert table.index("198.51.100.7") < table.index("reject")
    assert not machine.converge(
        extra_lines=["ip saddr 198.51.100.7 tcp dport { 4730 } accept"]
    ).changed


def test_only_listed_local_users_connect(machine):
    assert machine.answers(4730, 12345)
    machine.converge(local_users=["12346"])
    assert machine.answers(4730, 12346) and machine.answers(4730)
    assert not machine.answers(4730, 12345)
    assert machine.answers(4731, 12345)


MONITORING = {"monitoring_ports": [9418], "monitoring_networks": ["192.0.2.130", "fd00::/64"]}


def test_the_exporter_has_an_allow_list_of_its_own(machine):
    machine.converge(**MONITORING)
    table = machine.table()
    assert "tcp dport 4730 jump guarded" in table and "tcp dport 9418 jump watched" in table
    watched = table.partition("chain watched {")[2].partition("\n\t}")[0]
    assert "@monitoring4" in watched and "@allowed4" not in watched and "reject" in watched
    monitoring4 = table.partition("set monitoring4 {")[2].partition("\n\t}")[0]
    assert "192.0.2.130" in monitoring4 and "192.0.2.1 " not in monitoring4
    assert not machine.converge(**MONITORING).changed
    # All users of the host may look at the status page, also those that may not submit jobs.
    machine.converge(local_users=["12346"], **MONITORING)
    assert machine.answers(9418, 12345) and not machine.answers(4730, 12345)
    machine.converge()
    assert "9418" not in machine.table()


def test_a_host_without_a_job_server_guards_its_exporter_only(tmp_path):
    machine = Machine(tmp_path, True)
    machine.converge(ports=[], hosts={"w1": ["does not resolve"]}, **MONITORING)
    assert "4730" not in machine.table() and "allowed4" not in machine.table()
    assert [path.parent.name for path in machine.links.glob("*.requires/*")] == [
        "gearvisor-exporter.service.requires"
    ]
    machine.converge(**MONITORING)
    assert len(list(machine.links.glob("*.requires/*"))) == 3
    machine.converge()
    assert len(list(machine.links.glob("*.requires/*"))) == 2
    machine.namespace.communicate(b"")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ports": []}, r"^ports: \[\] is empty"),
        ({"monitoring_ports": [22]}, r"^monitoring_ports: 22 is SSH's"),
        ({"monitoring_ports": [0]}, r"^monitoring_ports: 0 is not a port"),
        ({"monitoring_ports": [4730]}, r"^monitoring_ports: 4730 is in ports, too"),
        ({"monitoring_ports": [9418], "monitoring_networks": ["x"]}, r"^monitoring_networks: 'x'"),
        ({"monitoring_ports": [*range(100, 1200)]}, r"^monitoring_ports: 1100 are too many"),
    ],
)
def test_what_is_refused_changes_nothing(tmp_path, options, error):
    machine = Machine(tmp_path, True)
    with pytest.raises(InvalidOption, match=error):
        machine.converge(**options)
    assert machine.table() == ""
    machine.namespace.communicate(b"")


def test_what_cannot_be_loaded_is_put_back(machine, monkeypatch):
    machine.converge()
    before = (machine.root / "etc/gearvisor/firewall.nft").read_text()
    monkeypatch.setattr(firewall._Table, "problem", lambda _table, _text: None)
    with pytest.raises(GearvisorError, match="nft refuses"):
        machine.converge(extra_lines=["nonsense"])
    assert (machine.root / "etc/gearvisor/firewall.nft").read_text() == before


def test_what_it_guards_requires_it(tmp_path):
    machine = Machine(tmp_path, True)
    machine.converge()
    unit = (tmp_path / firewall.UNIT_FILE[1:]).read_text()
    assert "RequiredBy=gearman-job-server.service gearman-tunnel.service" in unit
    assert "PartOf=" not in unit
    # Where the links are those of an earlier version, it is enabled again.
    (machine.links / "gearman-tunnel.service.requires" / firewall.UNIT).unlink()
    assert machine.converge(check_mode=True).actions == [
        f"load the allow-list at boot ({firewall.UNIT_FILE})"
    ]
    machine.namespace.communicate(b"")


def test_before_it_goes_nothing_requires_it_any_more(tmp_path):
    machine = Machine(tmp_path, True)
    machine.converge()
    machine.told.clear()
    machine.converge(state="absent")
    verbs = [line.split()[1] for line in machine.told if line.startswith("systemctl")]
    assert [verb for verb in verbs if verb != "show"] == [
        "disable",
        "daemon-reload",
        "stop",
        "daemon-reload",
    ]
    machine.namespace.communicate(b"")


def test_without_systemd_a_broken_file_lets_only_the_loopback_in(tmp_path):
    machine = Machine(tmp_path, False)
    machine.converge()
    script = (tmp_path / "etc/init.d/gearman-firewall").read_text()
    (tmp_path / "script").write_text(
        script.replace("/etc/gearvisor", str(tmp_path / "etc/gearvisor"))
    )
    (tmp_path / "etc/gearvisor/firewall.nft").write_text("nonsense")
    machine.inside([ruleset.NFT, "flush", "ruleset"])
    rc, _out, err = machine.inside(["sh", str(tmp_path / "script"), "start"])
    assert rc == 1 and "cannot be loaded" in err
    assert "tcp dport 4730" in machine.table() and "reject" in machine.table()
    machine.namespace.communicate(b"")
