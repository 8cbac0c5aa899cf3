# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unique ids with the time in front (UUID version 7, RFC 9562), and the age of a job by its id.

The job server lists the unique ids of jobs that wait, but not since when. An id that a Gearvisor
client made shows it, without a look at the payload.
"""

from __future__ import annotations

import os
import re
import time

_UUID7 = re.compile(rb"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
LENGTH = 36  # characters
SKEW = 300.0  # seconds that a client's clock may be ahead of this host's


def make(at: float | None = None) -> str:
    """Return a new unique id; later ones sort behind earlier ones, to a quarter microsecond.

    at: when its job may start, in seconds since the epoch: from then on it waits.
    """
    nanoseconds = time.time_ns() if at is None else max(0, int(at * 1e9))
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    milliseconds &= 2**48 - 1
    number = milliseconds << 80 | 0x7 << 76 | (rest << 12) // 1_000_000 << 64
    number |= 0b10 << 62 | int.from_bytes(os.urandom(8), "big") >> 2
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def made_at(unique: str | bytes, now: float) -> float | None:
    """Return when the id was made, in seconds since the epoch, or None when it does not show it.

    Never after `now`: a client whose clock is a little ahead gives `now`. One that is more than
    SKEW ahead is not believed.
    """
    raw = unique if isinstance(unique, bytes) else unique.encode(errors="replace")
    found = _UUID7.fullmatch(raw)
    if found is None:
        return None
    made = int(found[1] + found[2], 16) / 1000
    return None if made > now + SKEW else min(made, now)
