# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories are open to those that are to use them, regardless of root's umask."""

from __future__ import annotations

import os
import stat

import pytest
from gearvisor.cli import main
from gearvisor.directory import make_directory


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_above_are_open_to_all(umask, tmp_path):
    make_directory(str(tmp_path / "lib/failed/mail"), 0o700)
    assert [mode(tmp_path / each) for each in ("lib", "lib/failed", "lib/failed/mail")] == [
        0o755, 0o755, 0o700
    ]  # fmt: skip
    (tmp_path / "lib").chmod(0o711)
    make_directory(str(tmp_path / "lib"), 0o755)
    assert mode(tmp_path / "lib") == 0o711


def test_workers_get_to_see_what_is_paused_on_a_fresh_host(umask, tmp_path, capfd):
    assert main(["pause", "resize", "--directory", str(tmp_path / "lib/paused")]) == 0
    assert mode(tmp_path / "lib") == mode(tmp_path / "lib/paused") == 0o755
