# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gearman from Python: a client, a worker, the admin commands and the `gearvisor` command.

Import what you use from its module: `gearvisor.client.Client`, `gearvisor.worker.Worker`,
`gearvisor.admin.Admin`, `gearvisor.errors`. Nothing is imported here, so that each
process loads only its part.
"""

from __future__ import annotations

__version__ = "0.2.0"
