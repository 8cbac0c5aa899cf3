# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module reports about a certificate before it changes anything."""

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel import stunnel, tunnel
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel.certificates import Facts

SERVE = stunnel.Serve("192.0.2.11", 4731, "127.0.0.1:4730", "job1", ("worker_1",))
SERVER = stunnel.Server("job2", "192.0.2.12", 4731, 4740)
DAY = 24 * 60 * 60


@pytest.mark.parametrize(
    "host, settings",
    [
        ("job1", stunnel.Settings(SERVE, (SERVER,))),
        ("job1", stunnel.Settings(SERVE)),
        ("worker_1", stunnel.Settings(servers=(SERVER,))),
    ],
)
def test_a_certificate_that_fits_passes(made, host, settings):
    assert tunnel.check_identity(made.identity(host), settings).expires > 0


@pytest.mark.parametrize(
    "host, settings",
    [
        ("worker_1", stunnel.Settings(SERVE)),
        ("job1", stunnel.Settings(SERVE._replace(name="job2"))),
    ],
)
def test_one_that_does_not_is_refused_with_the_way_out(made, host, settings):
    with pytest.raises(
        InvalidOption, match=r"^certificate: .*playbooks/ca\.yml.* clock shows "
    ) as no:
        tunnel.check_identity(made.identity(host), settings)
    assert no.value.details["option"] == "certificate"


@pytest.mark.parametrize("part", ["ca", "certificate", "key"])
def test_an_empty_part_is_refused(made, part):
    identity = made.identity("worker_1")._replace(**{part: "\n"})
    with pytest.raises(InvalidOption, match=f"^{part}: '' is empty"):
        tunnel.check_identity(identity, stunnel.Settings(servers=(SERVER,)))


@pytest.mark.parametrize("days, warned", [(22, False), (20.5, True), (1, True)])
def test_an_end_that_is_near_is_reported(days, warned):
    warnings = tunnel.expiry_warnings(Facts(int(1000 + days * DAY), frozenset()), 1000)
    assert bool(warnings) is warned
    if warned:
        assert f"expires in {int(days)} days" in warnings[0]
