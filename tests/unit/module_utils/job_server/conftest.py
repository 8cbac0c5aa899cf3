"""A real gearmand on a free port of the loopback, where Debian's package is installed."""

from __future__ import annotations

import os
import socket
import subprocess
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.admin import Admin
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.errors import (
    GearmanError,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import config


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start():
    """Call it with a command line to start a gearmand; it returns the Popen once that answers."""
    if not os.path.exists(config.GEARMAND):
        pytest.skip("Debian's gearman-job-server is not installed")
    started = []

    def begin(argv, port=None):
        started.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        if port is not None:
            wait_until_answers(port)
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def gearmand(start, port):
    """The Popen of a gearmand that listens on *port*."""
    argv = ["--listen=127.0.0.1", f"--port={port}", "--log-file=none"]
    return start([config.GEARMAND, *argv], port)


def wait_until_answers(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            with Admin(f"127.0.0.1:{port}") as admin:
                return admin.version()
        except GearmanError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
