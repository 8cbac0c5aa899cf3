# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making directories that others use, too, regardless of the umask."""

from __future__ import annotations

import os


def make_directory(path: str, mode: int) -> None:
    """Make a directory with this mode, and what is missing above it, open to all for reading.

    One that is there is left as it is. Raises OSError.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above:
        make_directory(above, 0o755)
    os.mkdir(path, 0o700)
    os.chmod(path, mode)
