# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real gearmand and the real PHP worker and client, as fixtures."""

from __future__ import annotations

import shutil

import pytest
from php_harness import CLIENT, GEARMAND, JobServer, PhpWorker, run_php


@pytest.fixture(scope="session", autouse=True)
def programs():
    for path, package in (
        (GEARMAND, "gearman-job-server"),
        ("php", "php-cli php-gearman"),
        ("phpunit", "phpunit"),
    ):
        if shutil.which(path) is None:
            pytest.fail(
                f"{path} is missing: ./run test installs what the tests need (here {package})"
            )


@pytest.fixture(scope="session")
def client():
    """Runs client.php against a server (or none named) to its end."""

    def run(server, *arguments, data=b""):
        named = [] if server is None else ["--server", server.address]
        return run_php(CLIENT, *named, *arguments, data=data)

    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server and a worker for the tests that disturb neither."""
    server = JobServer()
    worker = None
    try:
        server.start()
        worker = PhpWorker(tmp_path_factory.mktemp("shared") / "log", [server], client_id="shared")
        server.wait_for_worker("shared")
        yield server, worker
    finally:
        if worker is not None:
            worker.stop()
        server.stop()


@pytest.fixture
def new_server():
    """Makes servers; those made with start=False only hold a port."""
    servers = []

    def make(start=True):
        servers.append(JobServer())
        return servers[-1].start() if start else servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def new_worker(tmp_path):
    """Starts workers, and waits until every server that is up knows them."""
    workers = []

    def make(servers, *options, client_id="worker-1", wait=True, before=()):
        log = tmp_path / f"log{len(workers)}"
        workers.append(PhpWorker(log, servers, *options, client_id=client_id, before=before))
        for server in servers if wait else ():
            if server.process is not None:
                server.wait_for_worker(client_id)
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()
