# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unique ids that show when they were made."""

from __future__ import annotations

import time
import uuid

import pytest
from gearvisor import unique_ids


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front():
    before = time.time()
    unique = unique_ids.make()
    parsed = uuid.UUID(unique)
    assert (str(parsed), parsed.version, parsed.variant) == (unique, 7, uuid.RFC_4122)
    assert before - 0.01 < unique_ids.made_at(unique, time.time()) <= time.time()
    assert len({unique_ids.make() for _ in range(1000)}) == 1000


def test_later_ids_sort_behind_earlier_ones():
    ids = []
    for _ in range(50):
        ids.append(unique_ids.make())
        time.sleep(0.00002)
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "unique",
    ["", "order-17", str(uuid.uuid4()), uuid.uuid4().hex, "gvr:0193:2", "\udcff\n", "f" * 63,
     unique_ids.make().replace("-", ""), unique_ids.make() + "x"],
    ids=range(9),
)  # fmt: skip
def test_other_ids_show_nothing(unique):
    assert unique_ids.made_at(unique, time.time()) is None


def test_a_clock_that_is_ahead_never_gives_a_negative_wait():
    now, unique = time.time(), unique_ids.make()
    assert unique_ids.made_at(unique, now - 60) == now - 60
    assert unique_ids.made_at(unique, now - 10_000) is None


def test_a_job_that_starts_later_waits_from_then_on():
    assert unique_ids.made_at(unique_ids.make(1000.5), 1002.0) == 1000.5
