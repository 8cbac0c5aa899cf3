# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees of strangers' text."""

from __future__ import annotations

import pytest
from gearvisor.escape import escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("resize", "resize"),
        ("send mail", "send mail"),
        ("App\\Jobs\\Größe", "App\\Jobs\\Größe"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202egpj", "\\u202egpj"),
        (b"\xff\xfe".decode(errors="surrogateescape"), "\\xff\\xfe"),
        ("\ud800", "\\ud800"),
        ("\x9b\x7f\0", "\\x9b\\x7f\\x00"),
    ],
)
def test_escaped(text, shown):
    assert escaped(text) == shown
    assert shown.isprintable()


def test_what_is_long_is_cut():
    assert escaped("x" * 2_000_000, 10) == "xxxxxxx..."
    assert escaped("short", 10) == "short"
