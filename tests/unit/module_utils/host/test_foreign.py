# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Others' files are read with others' rights."""

import os
import tempfile
from pathlib import Path

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import foreign

OWNER = 12345


@pytest.fixture
def home():
    """A directory that a user of the host owns."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    with tempfile.TemporaryDirectory(prefix="gearvisor-test-") as path:
        os.chmod(path, 0o755)
        inner = Path(path, "home")
        inner.mkdir()
        os.chown(inner, OWNER, OWNER)
        yield inner


def read(path, most=1000, trusted=frozenset({0})):
    return foreign.read_bytes(str(path), most, trusted)


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_owners_own_is_read(home, mode):
    file = home / "requirements.txt"
    file.write_text("six")
    os.chown(file, OWNER, OWNER)
    file.chmod(mode)
    before = os.geteuid(), os.getegid(), os.getgroups()
    assert read(file) == b"six"
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def test_roots_secret_is_not(home):
    secret = home.parent / "secret"
    secret.write_text("x")
    secret.chmod(0o640)
    (home / "link").symlink_to(secret)
    with pytest.raises(PermissionError):
        read(home / "link")
    os.link(secret, home / "hard")
    with pytest.raises(PermissionError):
        read(home / "hard")


def test_a_place_of_roots_is_read_as_root(home):
    secret = home.parent / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    assert read(secret) == b"x"


def test_a_trusted_users_place_is_read_as_root(home):
    file = home / "file"
    file.write_text("x")
    file.chmod(0o600)
    assert read(file, trusted=frozenset({0, OWNER})) == b"x"


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)],
    ids=["fifo", "directory", "device"],
)
def test_only_regular_files_are_read(home, make):
    make(home / "odd")
    with pytest.raises(OSError):
        read(home / "odd")


def test_there_is_a_bound(home):
    (home / "large").write_bytes(b"x" * 1001)
    (home / "large").chmod(0o644)
    with pytest.raises(OSError, match="larger than 1000 bytes"):
        read(home / "large")
