# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.debian import systemd


@pytest.mark.parametrize("there", [True, False])
def test_runs(tmp_path, monkeypatch, there):
    monkeypatch.setattr(systemd, "RUNS", str(tmp_path if there else tmp_path / "missing"))
    assert systemd.runs() is there
