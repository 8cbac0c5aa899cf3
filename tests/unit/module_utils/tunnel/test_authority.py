# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private authority makes what is missing or due, and nothing else."""

import os
import shutil
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.tunnel import (
    authority,
    certificates,
)

ISSUED = ["issue a certificate for job1", "issue a certificate for worker_1"]


def test_first_run_makes_all_and_second_nothing(fresh, tmp_path):
    missing = tmp_path / "authority"
    assert not missing.exists()
    directory = fresh()
    assert directory.converge() == []
    assert certificates.check_as_server(directory.identity("job1"), "job1")
    assert certificates.check_as_client(directory.identity("worker_1"))


def test_check_mode_tells_and_makes_nothing(tmp_path):
    request = authority.Request(str(tmp_path / "none"), {"job1": authority.Host(("job1",), True)})
    result = authority.converge(request, None, check_mode=True)
    assert result["actions"] == [
        "make the authority's certificate (there is none)",
        "issue a certificate for job1 (new authority)",
    ]
    assert not (tmp_path / "none").exists()


def test_keys_are_their_owners_alone_and_kept_out_of_git(made):
    assert made.path.stat().st_mode & 0o777 == 0o700
    for key in [made.path / "ca.key", *made.path.glob("hosts/*.key")]:
        assert key.stat().st_mode & 0o777 == 0o600, key
    assert made.read(".gitignore") == "*\n"


def other(**changes):
    return {"job1": authority.Host(("job1",), True)._replace(**changes)}


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"hosts": other(names=("job1", "192.0.2.12"))}, ["job1 (other names)"]),
        ({"hosts": other(names=("job1", "192.0.2.11", "2001:db8::b"))}, []),
        ({"hosts": other(names=("2001:db8::b", "job1", "192.0.2.11"))}, []),
        (
            {"hosts": other(names=("job1", "192.0.2.11", "2001:db8::b"), server=False)},
            ["job1 (other purpose)"],
        ),
        ({"hosts": {"new": authority.Host(("new",))}}, ["new (there is none)"]),
        ({"days": 500, "renew_days": 364}, []),
        ({"days": 500, "renew_days": 366}, ["job1 (ends soon)", "worker_1 (ends soon)"]),
        ({"rotate": True}, ["job1 (rotate)", "worker_1 (rotate)"]),
    ],
)
def test_what_is_due(made, options, expected):
    actions = made.converge(check_mode=True, **options)
    assert actions == [f"issue a certificate for {text}" for text in expected]


def test_a_renewed_certificate_has_a_new_key(fresh):
    directory = fresh()
    before = directory.identity("worker_1")
    directory.converge(rotate=True)
    after = directory.identity("worker_1")
    assert before.key != after.key and before.certificate != after.certificate
    assert certificates.check_as_client(after)


def test_renewed_authority_keeps_its_key_so_certificates_stay_good(fresh):
    directory = fresh(authority_days=430)
    before, key = directory.read("ca.pem"), directory.read("ca.key")
    old = directory.identity("worker_1")
    actions = directory.converge(authority_days=3650, days=400)
    assert actions == ["make the authority's certificate (ends soon)"]
    assert directory.read("ca.pem") != before and directory.read("ca.key") == key
    # In both directions, as hosts meet that have the one and the other.
    assert certificates.check_as_client(old._replace(ca=directory.read("ca.pem")))
    directory.converge(rotate=True)
    assert certificates.check_as_client(directory.identity("worker_1")._replace(ca=before))


def test_new_authority_means_new_certificates(fresh):
    directory = fresh()
    (directory.path / "ca.key").unlink()
    (directory.path / "ca.pem").unlink()
    actions = directory.converge()
    assert actions[0] == "make the authority's certificate (there is none)"
    assert [action.partition(" (")[0] for action in actions[1:]] == ISSUED
    assert directory.converge() == []


@pytest.mark.parametrize("kind", ["pem", "key"])
def test_a_damaged_file_is_made_anew(fresh, kind):
    directory = fresh()
    shutil.copy(directory.path / f"hosts/job1.{kind}", directory.path / f"hosts/worker_1.{kind}")
    (action,) = directory.converge()
    assert action.startswith("issue a certificate for worker_1 (")
    assert directory.converge() == []


def test_certificates_bear_no_more_than_they_need(made):
    text = subprocess.run(
        ["openssl", "x509", "-in", made.path / "hosts/worker_1.pem", "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "CA:FALSE" in text
    assert "TLS Web Client Authentication" in text
    assert "TLS Web Server Authentication" not in text


@pytest.mark.parametrize(
    "options, option",
    [
        ({"directory": "gearman-ca"}, "directory"),
        ({"renew_days": 0}, "renew_days"),
        ({"renew_days": 365}, "renew_days"),
        ({"authority_days": 425}, "authority_days"),
        ({"hosts": {"../job1": authority.Host(("job1",))}}, "hosts"),
        ({"hosts": {"job1": authority.Host(("job1,IP:1.2.3.4",))}}, "hosts.job1.names"),
        ({"hosts": {"job1": authority.Host(("*.example.org",))}}, "hosts.job1.names"),
    ],
)
def test_bad_values_are_refused_before_anything_is_made(tmp_path, options, option):
    request = authority.Request(str(tmp_path / "none"), {})._replace(**options)
    with pytest.raises(InvalidOption) as refused:
        authority.converge(request, None)
    assert refused.value.details["option"] == option
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "host", [None, "job1", {}, {"names": []}, {"names": "job1"}, {"names": ["a"], "server": "yes"}]
)
def test_hosts_are_typed(host):
    with pytest.raises(InvalidOption, match=r"hosts\.job1"):
        authority.typed_hosts({"job1": host})


def test_openssls_own_words_are_passed_on(tmp_path):
    with pytest.raises(GearvisorError, match="openssl: not found"):
        authority.converge(
            authority.Request(str(tmp_path), {}), lambda argv: (127, "", "openssl: not found")
        )
