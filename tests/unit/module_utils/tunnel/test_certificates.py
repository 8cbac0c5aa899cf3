# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate is tried in a handshake with itself."""

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel import certificates
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel.certificates import (
    CertificateError,
)


def test_a_good_one_shows_its_names_and_its_end(made):
    facts = certificates.check_as_server(made.identity("job1"), "192.0.2.11")
    assert facts.names == {"job1", "192.0.2.11", "2001:DB8:0:0:0:0:0:B"}
    assert facts == certificates.check_as_client(made.identity("job1"))


@pytest.mark.parametrize(
    "part, changes",
    [
        ("certificate", lambda made, foreign: {"ca": foreign.read("ca.pem")}),
        ("certificate", lambda made, foreign: {"ca": made.identity("worker_1").certificate}),
        ("key", lambda made, foreign: {"key": made.identity("job1").key}),
        ("ca", lambda made, foreign: {"ca": "no PEM text"}),
        ("certificate", lambda made, foreign: {"certificate": "no PEM text"}),
        ("certificate", lambda made, foreign: {"key": "no PEM text"}),
    ],
    ids=["foreign authority", "no authority", "other key", "no CA", "no certificate", "no key"],
)
def test_a_bad_one_is_refused(made, foreign, part, changes):
    identity = made.identity("worker_1")._replace(**changes(made, foreign))
    with pytest.raises(CertificateError) as refused:
        certificates.check_as_client(identity)
    assert refused.value.part == part
    assert "PRIVATE KEY" not in str(refused.value)


@pytest.mark.parametrize(
    "host, name, problem",
    [("job1", "job2", "not valid for 'job2'"), ("worker_1", "worker_1", "purpose")],
)
def test_a_server_needs_its_name_and_purpose(made, host, name, problem):
    with pytest.raises(CertificateError, match=problem):
        certificates.check_as_server(made.identity(host), name)


def test_several_authorities_may_be_trusted(made, foreign):
    both = foreign.read("ca.pem") + made.read("ca.pem")
    assert certificates.check_as_client(made.identity("worker_1")._replace(ca=both))
    assert certificates.check_as_client(foreign.identity("worker_1")._replace(ca=both))


def test_leaf_is_the_first_of_a_chain(made):
    first, second = made.identity("job1").certificate, made.read("ca.pem")
    assert certificates.leaf(first + second) == certificates.leaf(first)
    assert certificates.leaf(second) != certificates.leaf(first)
