# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private authority, with the real openssl, for the tests of what it makes."""

import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel import authority
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel.certificates import (
    Identity,
)

HOSTS = {
    "job1": authority.Host(("job1", "192.0.2.11", "2001:db8::b"), server=True),
    "worker_1": authority.Host(("worker_1",)),
}


def run(argv, **_):
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class Directory:
    """An authority's directory, made from *request*."""

    def __init__(self, path, **options):
        self.path = path
        self.request = authority.Request(str(path), HOSTS)._replace(**options)
        authority.converge(self.request, run)

    def converge(self, check_mode=False, **options):
        """Converge with other options; return the actions."""
        request = self.request._replace(**options)
        return self.outcome(request, check_mode).actions

    def outcome(self, request=None, check_mode=False):
        return authority.converge(request or self.request, run, check_mode)

    def read(self, name):
        return (self.path / name).read_text()

    def identity(self, name, key=None):
        return Identity(
            self.read("ca.pem"),
            self.read(f"hosts/{name}.pem"),
            self.read(f"hosts/{key or name}.key"),
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory that no test changes."""
    return Directory(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    return Directory(tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def fresh(tmp_path):
    """A factory of directories that a test may change."""
    return lambda **options: Directory(tmp_path / "authority", **options)
