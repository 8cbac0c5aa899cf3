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


def test_check_mode_shows_and_makes_nothing(tmp_path):
    request = authority.Request(str(tmp_path / "none"), {"job1": authority.Host(("job1",), True)})
    result = authority.converge(request, None, check_mode=True)
    assert result.actions == [
        "make the authority's certificate (none exists)",
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
        ({"hosts": {"new": authority.Host(("new",))}}, ["new (none exists)"]),
        ({"days": 500, "renew_days": 364}, []),
        ({"days": 500, "renew_days": 366}, ["job1 (expires soon)", "worker_1 (expires soon)"]),
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
    assert actions == ["make the authority's certificate (expires soon)"]
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
    assert actions[0] == "make the authority's certificate (none exists)"
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
    "host",
    [
        None,
        "job1",
        {},
        {"names": [1.5]},
        {"names": []},
        {"names": "job1"},
        {"names": ["a"], "server": "yes"},
    ],
)
def test_hosts_are_typed(host):
    with pytest.raises(InvalidOption, match=r"hosts\.job1"):
        authority.typed_hosts({"job1": host})


def test_openssls_own_words_are_passed_on(tmp_path):
    with pytest.raises(GearvisorError, match="openssl: not found"):
        authority.converge(
            authority.Request(str(tmp_path), {}), lambda argv, **_: (127, "", "openssl: not found")
        )


def test_a_next_certificate_waits_beside_the_one_in_use(fresh):
    directory = fresh()
    before = directory.identity("job1")
    actions = directory.converge(rotate=True, stage=True)
    assert actions == [
        f"issue the next certificate for {name} (rotate)" for name in authority_names
    ]
    assert directory.identity("job1") == before
    # The rotation that was begun goes on; it does not begin again.
    assert directory.converge(rotate=True, stage=True) == []
    outcome = directory.outcome(directory.request._replace(stage=True))
    assert outcome.details["staged"] == authority_names
    current, following = outcome.details["certificates"]["job1"]
    assert current == before.certificate
    assert certificates.check_as_server(directory.identity("job1.next"), "job1")

    assert directory.converge() == [
        f"use the next certificate for {name}" for name in authority_names
    ]
    assert directory.identity("job1").certificate == following
    outcome = directory.outcome()
    assert outcome.details == {
        "certificates": {name: [directory.read(f"hosts/{name}.pem")] for name in authority_names},
        "staged": [],
    }
    assert not outcome.changed


authority_names = ["job1", "worker_1"]


def test_what_is_no_good_is_replaced_at_once(fresh):
    directory = fresh()
    (directory.path / "hosts/job1.pem").unlink()
    assert directory.converge(stage=True) == ["issue a certificate for job1 (none exists)"]


def test_a_host_that_left_and_came_back_has_a_new_key(fresh):
    directory = fresh()
    before = directory.read("hosts/worker_1.key")
    others = {"job1": directory.request.hosts["job1"]}
    assert directory.converge(hosts=others) == []
    (action,) = directory.converge(hosts=others, purge=True)
    assert action == "remove the certificate of worker_1, which is not listed any more"
    assert not list(directory.path.glob("hosts/worker_1*"))
    assert directory.converge(hosts=others, purge=True) == []
    directory.converge(purge=True)
    assert directory.read("hosts/worker_1.key") != before


@pytest.mark.parametrize("name", ["ca.key", "hosts/job1.key", ".", "hosts"])
def test_what_was_opened_to_others_is_closed_and_reported(fresh, name):
    directory = fresh()
    path = directory.path / name
    mode = 0o755 if path.is_dir() else 0o644
    path.chmod(mode)
    checked = directory.outcome(check_mode=True)
    assert len(checked.actions) == 1 and f"{mode:04o}" in checked.actions[0]
    assert path.stat().st_mode & 0o777 == mode
    outcome = directory.outcome()
    assert outcome.changed and path.stat().st_mode & 0o077 == 0
    assert bool(outcome.warnings) is name.endswith(".key")
    assert not directory.outcome().changed


def test_what_belongs_to_another_user_is_refused(fresh):
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    directory = fresh()
    os.chown(directory.path / "ca.key", 12345, -1)
    with pytest.raises(GearvisorError, match="belongs to user 12345"):
        directory.converge()


def test_the_umask_of_the_control_node_does_not_count(fresh):
    umask = os.umask(0o027)
    try:
        directory = fresh()
    finally:
        os.umask(umask)
    assert (directory.path / "hosts").stat().st_mode & 0o777 == 0o700
    assert (directory.path / "hosts/job1.pem").stat().st_mode & 0o777 == 0o644


def test_one_that_ends_very_soon_does_not_wait(fresh):
    directory = fresh()
    late = {"days": 1500, "renew_days": 1000, "stage": True}
    assert directory.converge(check_mode=True, **late) == [
        f"issue a certificate for {name} (expires very soon)" for name in authority_names
    ]
    directory.converge(days=1500, rotate=True, stage=True)
    assert directory.converge(**late)[0] == "use the next certificate for job1"
