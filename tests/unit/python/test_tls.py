# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Job servers behind a real stunnel that asks for a certificate: client, worker, admin, asyncio."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import textwrap

import pytest
from gearvisor import aio, job_servers
from gearvisor.cli import main
from gearvisor.client import Client
from gearvisor.errors import ServerUnavailable
from gearvisor.reference import FUNCTIONS

STUNNEL = "/usr/bin/stunnel4"


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """A certificate authority of a test, in a separate folder."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        self.certificate = folder / "ca.pem"
        # Python 3.13 requires a certificate authority to be marked as one.
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self._issue(self.certificate, folder / "ca.key", "/CN=tests", "-x509", "-addext", usage)

    def _issue(self, certificate, key, subject, *options):
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-days", "2", "-subj", subject, "-keyout", key, "-out", certificate,
                 *options)  # fmt: skip

    def issue(self, name, alternative="IP:127.0.0.1"):
        """Return the paths of a certificate and its key."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        self._issue(
            certificate, key, f"/CN={name}", "-x509", "-CA", self.certificate, "-CAkey",
            self.folder / "ca.key", "-addext", f"subjectAltName={alternative}",
            "-addext", "basicConstraints=critical,CA:false",
        )  # fmt: skip
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "foreign")


@pytest.fixture
def tunnel(tmp_path, wait_until, authority, shared_server):
    """tunnel(NAME): the "host:port" of a stunnel that shows a certificate for NAME."""
    if not shutil.which(STUNNEL):
        pytest.fail(f"{STUNNEL} is missing: `./run test` installs it (Debian: stunnel4)")
    processes = []

    def start(alternative="IP:127.0.0.1"):
        certificate, key = authority.issue("server", alternative)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        configuration = tmp_path / "stunnel.conf"
        configuration.write_text(
            textwrap.dedent(f"""\
            foreground = yes
            pid =
            [gearman]
            accept = 127.0.0.1:{port}
            connect = {shared_server.address}
            cert = {certificate}
            key = {key}
            CAfile = {authority.certificate}
            requireCert = yes
            verifyChain = yes
            """)
        )
        processes.append(
            subprocess.Popen([STUNNEL, str(configuration)], stdout=-3, stderr=-3)  # DEVNULL
        )

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, "stunnel")
        return f"127.0.0.1:{port}"

    yield start
    for process in processes:
        process.terminate()
        process.wait(60)


def context(trusted, *shown):
    made = ssl.create_default_context(cafile=trusted.certificate)
    if shown:
        made.load_cert_chain(*shown)
    return made


def test_client_and_worker_through_the_tunnel(tunnel, authority, serve):
    address = tunnel()
    trust = context(authority, *authority.issue("me"))
    serve([address], dict(FUNCTIONS), ssl_context=trust)
    payload = bytes(range(256)) * 4096
    with Client([address], timeout=60, ssl_context=trust) as client:
        for data in (b"", b"hello", payload):
            assert client.submit("reverse", data).data == data[::-1]

    async def run():
        async with aio.Client([address], timeout=60, ssl_context=trust) as client:
            return await client.submit("reverse", payload)

    assert asyncio.run(run()).data == payload[::-1]


def test_large_results_take_their_time_through_the_tunnel(
    monkeypatch, tunnel, authority, serve, slow_link
):
    monkeypatch.setattr(job_servers, "CONNECT_TIMEOUT", 2)
    monkeypatch.setattr(job_servers, "ANSWER_TIMEOUT", 2)
    address = tunnel()
    trust = context(authority, *authority.issue("me"))
    runs = []

    def large(job):
        runs.append(None)
        return bytes(12_000_000)

    serve([slow_link(address, 3_000_000)], {"large": large}, ssl_context=trust)
    with Client([address], timeout=60, ssl_context=trust) as client:
        assert client.submit("large").data == bytes(12_000_000)
    assert len(runs) == 1


def test_an_async_worker_through_the_tunnel(tunnel, authority):
    address = tunnel()
    trust = context(authority, *authority.issue("me"))

    async def reverse(job):
        return job.data[::-1]

    async def run():
        worker = aio.Worker([address], ssl_context=trust)
        worker.register("through_tls", reverse)
        running = asyncio.ensure_future(worker.run())
        async with aio.Client([address], timeout=60, ssl_context=trust) as client:
            result = await client.submit("through_tls", b"abc")
        worker.stop()
        await running
        return result.data

    assert asyncio.run(run()) == b"cba"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("IP:127.0.0.2", "certificate verify failed"),
        ("DNS:localhost", "certificate verify failed"),
    ],
)
def test_a_certificate_for_another_host_is_refused(tunnel, authority, name, says):
    with pytest.raises(ServerUnavailable, match=says):
        Client([tunnel(name)], ssl_context=context(authority)).submit("echo")


def test_a_server_of_a_foreign_authority_is_refused(tunnel, foreign):
    with pytest.raises(ServerUnavailable, match="certificate verify failed"):
        Client([tunnel()], ssl_context=context(foreign)).submit("echo")


@pytest.mark.parametrize("shown", ["none", "foreign", "plain text"])
def test_a_client_without_a_certificate_of_ours_gets_nothing(tunnel, authority, foreign, shown):
    trust = {
        "none": lambda: context(authority),
        "foreign": lambda: context(authority, *foreign.issue("me")),
        "plain text": lambda: None,
    }[shown]()
    with pytest.raises(ServerUnavailable):
        Client([tunnel()], timeout=3, ssl_context=trust).submit("echo", background=True)


# The command


def test_the_command_takes_the_files_as_options_or_from_the_environment(
    wait_until, shared_server, tunnel, authority, command, capfd, monkeypatch
):
    address = tunnel()
    certificate, key = authority.issue("me")
    options = ["--server", address, "--tls-ca", authority.certificate, "--tls-cert", certificate,
               "--tls-key", key]  # fmt: skip
    worker = command("worker", *options, "--client-id", "tls", "tls_echo=gearvisor.reference:echo")
    wait_until(lambda: "tls" in shared_server.worker_ids("tls_echo"), "registered")
    assert main(["submit", *map(str, options), "tls_echo", "hello"]) == 0
    assert capfd.readouterr().out == "hello"

    monkeypatch.setenv("GEARVISOR_SERVERS", address)
    monkeypatch.setenv("GEARVISOR_TLS_CA", str(authority.certificate))
    monkeypatch.setenv("GEARVISOR_TLS_CERT", str(certificate))
    monkeypatch.setenv("GEARVISOR_TLS_KEY", str(key))
    assert main(["status", "--json"]) == 0
    (server,) = json.loads(capfd.readouterr().out)["servers"]
    assert server["functions"]["tls_echo"]["workers"] == 1
    assert main(["drain", "tls_echo", "--timeout", "5"]) == 0
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-cert", "CERT"], "--tls-cert and --tls-key require --tls-ca"),
        (["--tls-ca", "CA", "--tls-key", "KEY"], "needs its certificate: give --tls-cert"),
        (["--tls-ca", "/missing.pem"], "--tls-ca /missing.pem: No such file or directory"),
        (["--tls-ca", "KEY"], "Name a PEM file that this user can read"),
        (["--tls-ca", "CA", "--tls-cert", "CERT", "--tls-key", "OTHER"], "must belong together"),
    ],
)
def test_files_that_do_not_fit_are_usage_errors(authority, foreign, capfd, options, says):
    certificate, key = authority.issue("me")
    files = {"CA": authority.certificate, "CERT": certificate, "KEY": key,
             "OTHER": foreign.issue("me")[1]}  # fmt: skip
    arguments = [str(files.get(option, option)) for option in options]
    assert main(["submit", "f", "x", *arguments]) == 2
    errors = capfd.readouterr().err
    assert says in errors and "Traceback" not in errors
    assert os.linesep not in errors.strip()
