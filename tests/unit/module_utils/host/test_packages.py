from __future__ import annotations

import os
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import packages

DPKG_QUERY = {
    "installed": ("ii  gearman-job-server 1.1.20+ds-1\n", {"gearman-job-server": "1.1.20+ds-1"}),
    "on hold": ("hi  supervisor 4.2.5-1\n", {"supervisor": "4.2.5-1"}),
    "removed, configuration left": ("rc  supervisor 4.2.5-1\n", {}),
    "known and not installed": ("un  supervisor \n", {}),
    "half installed": ("iH  supervisor 4.2.5-1\n", {}),
    "half configured": ("iF  supervisor 4.2.5-1\n", {}),
    "must be installed again": ("iiR supervisor 4.2.5-1\n", {}),
    "several": (
        "ii  a 1:1.0~rc1-1\nrc  b 2\nii  c 3+deb12u1\n",
        {"a": "1:1.0~rc1-1", "c": "3+deb12u1"},
    ),
    "nothing": ("", {}),
}


@pytest.mark.parametrize(("output", "expected"), DPKG_QUERY.values(), ids=DPKG_QUERY)
def test_parse_dpkg_query(output, expected):
    assert packages.parse_dpkg_query(output) == expected


@pytest.mark.skipif(not os.path.exists("/usr/bin/dpkg-query"), reason="no Debian")
def test_installed_versions_asks_the_real_dpkg():
    import subprocess

    def run(argv):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    found = packages.installed_versions(run, ["dpkg", "base-fil*", "no-such-package"])
    assert sorted(found) == ["base-files", "dpkg"]
    assert all(version[0].isdigit() for version in found.values())


MISSING = {
    "nothing wanted": ({"a": "1"}, {}, []),
    "any version is there": ({"a": "1"}, {"a": None}, []),
    "not there": ({}, {"a": None}, ["a"]),
    "this version is there": ({"a": "1.2-1"}, {"a": "1.2-1"}, []),
    "another version is there": ({"a": "1.2-1"}, {"a": "1.3-1"}, ["a=1.3-1"]),
    "a version that fits is there": ({"a": "1.2-1"}, {"a": "1.2*"}, []),
    "none that fits": ({"a": "1.3-1"}, {"a": "1.2*"}, ["a=1.2*"]),
    "in order": ({"b": "1"}, {"c": None, "b": None, "a": "2"}, ["a=2", "c"]),
}


@pytest.mark.parametrize(("installed", "wanted", "expected"), MISSING.values(), ids=MISSING)
def test_missing(installed, wanted, expected):
    assert packages.missing(installed, wanted) == expected


REASONS = {
    "its own words": (
        "Reading package lists...\nE: Unable to locate package gearmand\n",
        "Unable to locate package gearmand",
    ),
    "several": ("E: one\nW: not this\nE: two\n", "one; two"),
    "no error line": ("first\nsecond\n\nthird\n", "second; third"),
    "not in the middle": ("NOTE: x\n", "NOTE: x"),
    "nothing": ("\n", "it gave no reason"),
}


@pytest.mark.parametrize(("output", "expected"), REASONS.values(), ids=REASONS)
def test_apt_reason(output, expected):
    assert packages.apt_reason(output) == expected


class Host:
    """Records the commands that are run, and how things stand while they are."""

    def __init__(self, policy, *answers):
        self.policy = policy
        self.answers = list(answers)
        self.commands = []
        self.environments = []
        self.verdicts = []

    def run(self, argv, environ_update=None):
        self.commands.append(argv)
        self.environments.append(environ_update)
        if self.policy.exists():
            # The policy's answers to our own apt-get's processes and to others.
            self.verdicts.append(tuple(self._verdict(own) for own in (environ_update, {})))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _verdict(self, environment):
        return subprocess.run([self.policy, "x", "start"], env=environment).returncode

    def asked(self):
        """What apt-get was asked to do each time, without its options."""
        return [[word for word in argv[1:] if not word.startswith("-")] for argv in self.commands]


GOOD = (0, "", "")
BAD = (100, "", "E: Unable to locate package x\n")


@pytest.fixture
def policy(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "POLICY", str(tmp_path / "policy-rc.d"))
    return tmp_path / "policy-rc.d"


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([GOOD], [["install", "x", "y=2"]]),
        ([BAD, GOOD, GOOD], [["install", "x", "y=2"], ["update"], ["install", "x", "y=2"]]),
        ([BAD, BAD, GOOD], [["install", "x", "y=2"], ["update"], ["install", "x", "y=2"]]),
    ],
    ids=["at once", "after an update", "although the update fails"],
)
def test_install(policy, answers, asked):
    host = Host(policy, *answers)
    packages.install(host.run, ["x", "y=2"], "state: 'present'")
    assert host.asked() == asked
    for argv, environment in zip(host.commands, host.environments):
        assert argv[0] == "apt-get"
        assert {"--yes", "--no-install-recommends"} <= set(argv)
        assert environment["DEBIAN_FRONTEND"] == "noninteractive"


def test_install_that_fails_shows_what_and_why(policy):
    host = Host(policy, BAD, GOOD, BAD)
    with pytest.raises(GearvisorError) as caught:
        packages.install(host.run, ["x=1.2*", "y"], "version: '1.2*'")
    message = str(caught.value)
    assert message.startswith("version: '1.2*' needs x=1.2* y, which apt-get cannot install: ")
    assert "Unable to locate package x" in message
    assert "see 'apt-cache policy x'" in message


@pytest.mark.parametrize(
    "answers",
    [[GOOD], [BAD, GOOD, BAD], [OSError("no apt-get")]],
    ids=["installed", "failed", "raised"],
)
@pytest.mark.parametrize("before", ["none", "script", "dangling link", "left by a killed run"])
def test_services_are_not_started_and_the_hosts_policy_comes_back(policy, answers, before):
    def state():
        if policy.is_symlink():
            return os.readlink(policy)
        return policy.read_bytes() if policy.exists() else None

    if before != "none":
        policy.write_bytes(b"#!/bin/sh\n# theirs \xff\nexit 104\n")
        policy.chmod(0o755)
    if before == "dangling link":
        policy.unlink()
        policy.symlink_to("/not/there")
    kept = state()
    if before == "left by a killed run":
        policy.rename(policy.with_name("policy-rc.d.gearvisor"))
        policy.write_text(packages._POLICY_TEXT)
    host = Host(policy, *answers)
    try:
        packages.install(host.run, ["x"], "why")
    except (GearvisorError, OSError):
        assert answers != [GOOD]
    assert host.verdicts[0] == (101, 104 if before in ("script", "left by a killed run") else 0)
    assert state() == kept
    assert [path.name for path in policy.parent.iterdir()] == (
        [] if before == "none" else ["policy-rc.d"]
    )


@pytest.mark.parametrize("text", [packages._POLICY_TEXT, packages._OLD_POLICY_TEXT])
def test_our_policy_left_by_a_killed_run_is_not_taken_for_the_hosts(policy, text):
    policy.write_text(text)
    packages.install(Host(policy, GOOD).run, ["x"], "why")
    assert list(policy.parent.iterdir()) == []


def test_remove(policy):
    host = Host(policy, GOOD)
    packages.remove(host.run, ["x", "y"])
    assert host.asked() == [["remove", "x", "y"]]
    # Services that are removed must be stopped.
    assert host.verdicts == []
    with pytest.raises(GearvisorError, match=r"^state: 'absent' cannot remove x: Unable to locate"):
        packages.remove(Host(policy, BAD).run, ["x"])
    with pytest.raises(GearvisorError, match=r"^method: 'source' cannot remove x"):
        packages.remove(Host(policy, BAD).run, ["x"], "method: 'source'")


def test_removed_with():
    """As apt-get prints it with --simulate, in the words of Debian 12 and 13."""
    said = (
        "NOTE: This is only a simulation!\n"
        "Remv php-gearman [2.1.0+1.1.2-12]\n"
        "Remv php8.2-gearman [2.1.0+1.1.2-12] [php8.2-gearman:amd64 on php-x:amd64] []\n"
    )
    calls = []

    def run(argv, **_):
        calls.append(argv)
        return 0, said, ""

    assert packages.removed_with(run, ["php8.2-gearman"]) == ["php-gearman", "php8.2-gearman"]
    assert "--simulate" in calls[0]
    assert calls[0][-2:] == ["remove", "php8.2-gearman"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("gearman-job-server:\n  Installed: 1.1.20\n  Candidate: 1.1.21+ds-1\n", "1.1.21+ds-1"),
        ("gearman-job-server:\n  Installed: (none)\n  Candidate: (none)\n", None),
        ("", None),
    ],
)
def test_candidate(told, expected):
    def run(argv, environ_update=None):
        assert argv == ["apt-cache", "policy", "gearman-job-server"]
        return 0, told, ""

    assert packages.candidate(run, "gearman-job-server") == expected
