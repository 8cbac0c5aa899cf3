# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names as file names."""

from __future__ import annotations

import pytest
from gearvisor.percent import decoded, encoded


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        (b"resize", "resize"),
        (b"send mail", "send%20mail"),
        ("s\u00e9nd".encode(), "s%C3%A9nd"),
        (b"App\\Mail::send", "App%5CMail%3A%3Asend"),
        (b"../etc", "%2E.%2Fetc"),
        (b".", "%2E"),
        (b"a.b~c_d-e", "a.b~c_d-e"),
        (b"\xff\n", "%FF%0A"),
        (b"50%", "50%25"),
    ],
)
def test_there_and_back(name, file_name):
    assert encoded(name) == file_name
    assert decoded(file_name) == name


@pytest.mark.parametrize("file_name", ["", ".hidden", "a b", "a%2", "%zz", "%41", "a%2f", "\u00e9"])
def test_what_encoded_never_makes_stands_for_nothing(file_name):
    assert decoded(file_name) is None
