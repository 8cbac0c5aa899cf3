# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether systemd runs this host."""

from __future__ import annotations

import os

RUNS = "/run/systemd/system"


def runs():
    """Tell whether systemd is the host's service manager (sd_booted(3))."""
    return os.path.isdir(RUNS)
