# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs PHPUnit on the *Test.php files beside this one, which test what needs no job server.

Debian 12's PHPUnit reads their comments @dataProvider, Debian 13's their attributes.
"""

from __future__ import annotations

import pathlib
import subprocess


def test_pure_parts():
    done = subprocess.run(
        ["phpunit", "--do-not-cache-result", pathlib.Path(__file__).parent],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OK (" in done.stdout, done.stdout
