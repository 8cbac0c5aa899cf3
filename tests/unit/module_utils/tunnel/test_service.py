# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tunnel as it runs: a real stunnel, whose service manager is the test.

Files are below the test's own root; ports are the machine's.
"""

import contextlib
import ipaddress
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import journal
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.process import Process
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper import choice
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.service import Preview
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel import (
    authority,
    stunnel,
    tunnel,
)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists(stunnel.STUNNEL), reason="needs root and stunnel4"
)


def run(argv, environ_update=None, cwd=None, **_):
    if argv[0] == "dpkg-query":
        return 0, "ii  stunnel4 3:5.68\n", ""
    environment = {**os.environ, **(environ_update or {})}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, env=environment)
    return done.returncode, done.stdout, done.stderr


def config(root):
    return Path(root + stunnel.CONFIG).read_text()


class Keeper:
    """Keeps one stunnel, with the configuration below *root*, and records its calls."""

    manager = "test"

    def __init__(self, root):
        self.root = root
        self.child = None
        self.told = []

    def files(self):
        return {}

    def preview(self, _wanted):
        return Preview()

    def process(self):
        return Process(self.child.pid) if self.child and self.child.poll() is None else None

    def start(self):
        if self.process() is None:
            self.told.append("start")
            self._start()

    def _start(self):
        self.log = f"{self.root}/log"
        with open(self.log, "a") as log:
            self.child = subprocess.Popen([stunnel.STUNNEL, self._place_config()], stderr=log)

    def _place_config(self):
        """Write the configuration as it would be if the root were the host's; return its path."""
        path = f"{self.root}{stunnel.DIRECTORY}/here.conf"
        text = config(self.root).replace("/etc/gearvisor", f"{self.root}/etc/gearvisor")
        Path(path).write_text(text)
        return path

    def reload(self, process):
        self.told.append("reload")
        self._place_config()
        os.kill(process.pid, signal.SIGHUP)

    def restart(self):
        self.told.append("restart")
        self.stop()
        self._start()

    def stop(self):
        if self.process():
            self.child.terminate()
            self.child.wait()

    def remove(self):
        self.told.append("remove")
        self.stop()

    def reread(self):
        pass

    def last_lines(self):
        return Path(self.log).read_text()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Site:
    """A host's tunnel, the authority's directory, and a job server that sends hello and then echoes."""

    def __init__(self, path, monkeypatch):
        self.root = str(path / "root")
        os.makedirs(self.root)
        self.ca = str(path / "ca")
        self.keeper = Keeper(self.root)
        monkeypatch.setattr(choice, "choose", lambda *_arguments: self.keeper)
        monkeypatch.setattr(tunnel.ports, "local_addresses", self.local_addresses)
        self.port = free_port()
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()
        self.names = {"job1": True, "worker1": False, "worker2": False}
        self.issue()

    def local_addresses(self, _name):
        return [Address(ipaddress.ip_address("127.0.0.1"))]

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self.server.accept()
                threading.Thread(target=self.echo, args=(connection,), daemon=True).start()

    @staticmethod
    def echo(connection):
        with contextlib.suppress(OSError):
            while data := connection.recv(100):
                connection.sendall(data)

    def issue(self, **options):
        hosts = {name: authority.Host((name,), server) for name, server in self.names.items()}
        request = authority.Request(self.ca, hosts, **options)
        self.certificates = authority.converge(request, run).details["certificates"]

    def read(self, name):
        with open(f"{self.ca}/{name}") as file:
            return file.read()

    def converge(self, check_mode=False, **options):
        serve = {
            "listen": "127.0.0.1",
            "port": self.port,
            "job_server": f"127.0.0.1:{self.server.getsockname()[1]}",
            "name": "job1",
            "clients": list(self.names),
        }
        params = {
            "state": "present",
            "serve": serve,
            "servers": [],
            "ca": self.read("ca.pem"),
            "certificate": self.read("hosts/job1.pem"),
            "key": self.read("hosts/job1.key"),
            "peers": [text for texts in self.certificates.values() for text in texts],
            "end_retired": False,
            "extra_lines": [],
            "service_manager": "auto",
            **options,
        }
        self.keeper.told.clear()
        host = Host(run, check_mode, root=self.root)
        return tunnel.converge(tunnel.request_of(params), host)

    def connect(self, directory, name):
        """Return a connection through the tunnel that was asked and has answered."""
        context = ssl.create_default_context(cafile=f"{self.ca}/ca.pem")
        context.load_cert_chain(f"{directory}/{name}.pem", f"{directory}/{name}.key")
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection = context.wrap_socket(plain, server_hostname="job1")
        assert self.ask(connection) == b"hello"
        return connection

    @staticmethod
    def ask(connection):
        connection.sendall(b"hello")
        return connection.recv(100)

    def refuses(self, directory, name):
        try:
            self.connect(directory, name).close()
        except (OSError, AssertionError):
            return True
        return False

    def copy_of_keys(self, path):
        shutil.copytree(f"{self.ca}/hosts", path)
        return str(path)


class Address:
    """127.0.0.1, which other hosts of the test can reach."""

    def __init__(self, address):
        self.address = address
        self.version = 4
        self.is_loopback = False
        self.is_unspecified = False

    def __eq__(self, other):
        return self.address == other

    def __hash__(self):
        return hash(self.address)

    def __str__(self):
        return str(self.address)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "DIRECTORY", "/var/lib/gearvisor/journal")
    made = Site(tmp_path, monkeypatch)
    yield made
    made.keeper.stop()
    made.server.close()


def test_it_starts_serves_and_then_changes_nothing(site):
    checked = site.converge(check_mode=True)
    assert checked.changed and not os.path.exists(site.root + stunnel.CONFIG)
    umask = os.umask(0o077)
    try:
        assert "start stunnel" in site.converge().actions
    finally:
        os.umask(umask)
    site.connect(f"{site.ca}/hosts", "worker1").close()
    found = os.stat(site.root + stunnel.KEY)
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, pwd.getpwnam(stunnel.USER).pw_uid)
    for path in ("/etc/gearvisor", stunnel.DIRECTORY, stunnel.CONFIG, stunnel.CA, stunnel.TRUSTED):
        assert os.stat(site.root + path).st_mode & 0o005, path
    again = site.converge()
    assert (again.changed, again.actions, site.keeper.told) == (False, [], [])


def test_the_key_is_in_no_diff(site):
    for check_mode in (True, False):
        assert "PRIVATE KEY" not in repr(site.converge(check_mode))
    assert "PRIVATE KEY" not in repr(site.converge(state="absent"))


def test_a_rotation_in_its_steps(site, tmp_path):
    """All accept both; all use the new ones; the old ones are refused and their connections end."""
    site.converge()
    old = site.copy_of_keys(tmp_path / "old")
    worker = site.connect(old, "worker1")

    site.issue(rotate=True, stage=True)
    assert site.converge().actions == ["reload stunnel"]
    assert site.ask(worker) == b"hello"
    assert not site.refuses(old, "worker1")

    following = {
        "certificate": site.read("hosts/job1.next.pem"),
        "key": site.read("hosts/job1.next.key"),
    }
    assert site.converge(**following).actions == ["reload stunnel"]
    assert site.ask(worker) == b"hello"

    site.issue()
    (action,) = site.converge(end_retired=True).actions
    assert action.startswith("restart stunnel")
    with contextlib.suppress(OSError):
        assert site.ask(worker) == b""
    for name in ("worker1", "worker2", "job1"):
        assert site.refuses(old, name)
        assert not site.refuses(f"{site.ca}/hosts", name)
    assert not site.converge(end_retired=True).changed


def test_without_end_retired_connections_stay(site, tmp_path):
    site.converge()
    old = site.copy_of_keys(tmp_path / "old")
    worker = site.connect(old, "worker1")
    del site.certificates["worker1"]
    assert site.converge().actions == ["reload stunnel"]
    assert site.keeper.told == ["reload"]
    deadline = time.monotonic() + 60
    while not site.refuses(old, "worker1"):
        assert time.monotonic() < deadline
    assert site.ask(worker) == b"hello"


def test_a_run_that_was_killed_before_the_restart_is_finished(site, monkeypatch):
    site.converge()
    del site.certificates["worker1"]
    monkeypatch.setattr(site.keeper, "restart", lambda: os.kill(os.getpid(), signal.SIGALRM))

    def killed(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, killed)
    try:
        with pytest.raises(KeyboardInterrupt):
            site.converge(end_retired=True)
    finally:
        signal.signal(signal.SIGALRM, before)
    monkeypatch.undo()
    monkeypatch.setattr(choice, "choose", lambda *_arguments: site.keeper)
    monkeypatch.setattr(tunnel.ports, "local_addresses", site.local_addresses)
    # Also where the next run does not request it.
    assert any(action.startswith("restart") for action in site.converge().actions)
    assert not site.converge().changed


def test_without_a_list_any_certificate_of_the_authority_is_accepted(site, tmp_path):
    site.converge(peers=[])
    old = site.copy_of_keys(tmp_path / "old")
    site.issue(rotate=True)
    assert not site.refuses(old, "worker1")
    assert site.converge(end_retired=True).actions[0].startswith("restart")
    assert site.refuses(old, "worker1")


def test_what_does_not_serve_is_put_back(site, monkeypatch):
    site.converge()
    before = config(site.root)
    monkeypatch.setattr(tunnel, "_READY_SECONDS", 0.5)
    monkeypatch.setattr(site.keeper, "reload", lambda _process: site.keeper.stop())
    with pytest.raises(GearvisorError, match=r"does not listen.* The old files are back"):
        site.converge(**second(site))
    assert config(site.root) == before


def second(site):
    serve = {
        "listen": "127.0.0.1",
        "port": free_port(),
        "job_server": "127.0.0.1:1",
        "name": "job1",
        "clients": ["worker1"],
    }
    return {"serve": serve}


@pytest.mark.parametrize(
    "line, refused",
    [
        ("curves = X25519:P-256", None),
        ("TIMEOUTbusy = 60", None),
        ("ciphersuites = bogus", "refused by stunnel"),
        ("nonsense = 1", "refused by stunnel"),
        ("verifyChain = no", "which the module sets itself"),
        ("include = /tmp", "which the module sets itself"),
        ("[other]", "not key = value"),
        ("debug = 7\nexec = /bin/sh", "not key = value"),
    ],
)
def test_extra_lines_are_tried_first(site, line, refused):
    if refused is None:
        site.converge(extra_lines=[line])
        assert line in config(site.root).splitlines()
        return
    for check_mode in (True, False):
        with pytest.raises(InvalidOption, match=refused):
            site.converge(check_mode, extra_lines=[line])
    assert not os.path.exists(site.root + stunnel.CONFIG)


@pytest.mark.parametrize("peers", [["no PEM"], ["-----BEGIN CERTIFICATE-----\n\udc80"]])
def test_peers_are_certificates(site, peers):
    with pytest.raises(InvalidOption, match=r"^peers: "):
        site.converge(peers=peers)


def test_who_was_let_in_is_in_the_log(site):
    site.converge()
    site.connect(f"{site.ca}/hosts", "worker1").close()
    log = Path(site.keeper.log).read_text()
    assert "accepted connection from 127.0.0.1" in log
    assert "Certificate accepted at depth=0: CN=worker1" in log


def test_absent_removes_everything(site):
    site.converge()
    site.converge(state="absent")
    assert site.keeper.told == ["remove"]
    os.unlink(f"{site.root}{stunnel.DIRECTORY}/here.conf")
    assert os.listdir(site.root + stunnel.DIRECTORY) == []
    assert not site.converge(state="absent").changed
