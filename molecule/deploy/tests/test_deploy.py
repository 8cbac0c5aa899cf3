"""Releases are deployed while jobs flow: a bad one touches one batch of one host and goes back by itself."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

PYTHON = "/opt/gearvisor/venv/bin/python"
# A quarter of each program: 20 Python workers and 8 PHP workers.
BATCH = {"resize": 5, "report": 2}
BAD = {
    "exits": "it ended and was started again: exit status 1",
    "import_error": "does not ",
    "never_registers": "is not registered with",
    "fails_all": "jobs failed",
    "fails_some": "jobs failed",
    "hangs": "no job was finished",
    # Which is seen first depends on how soon a job comes.
    "dies": "died in its job|ended and was started again|Exited too quickly",
    "forgets": "is not registered with .* for .*report_again|report_again",
    "too_large": "more than its limit of|Exited too quickly",
}
DEFAULT = ("exits", "fails_all")
# Failures are what these releases are about, and a job that kills its workers has no answer.
FAILING = ("fails_all", "fails_some", "dies")


class Load:
    """Eight clients that submit jobs on a host for as long as the block runs."""

    def __init__(self, lab, name):
        self.host = lab[name]
        self.container = lab.container(name)

    def __enter__(self):
        self.host.check_output("rm -f /tmp/stop")
        argv = ["podman", "exec", self.container, PYTHON, "/srv/load.py", "/tmp/stop"]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        return self

    def __exit__(self, *_):
        self.host.check_output("touch /tmp/stop")
        self.counts = json.loads(self.process.communicate(timeout=200)[0])
        self.timeline = self.counts.pop("timeline")


def processes(host):
    """{process: (pid, release)} of all workers of the host."""
    status = [line.split() for line in host.check_output("supervisorctl status").splitlines()]
    pids = {
        words[0]: words[3].rstrip(",")
        for words in status
        if words[1] == "RUNNING" and words[0].startswith(("resize", "report"))
    }
    # Only its user may read a process's environment in a container.
    printed = host.check_output(
        f"for pid in {' '.join(pids.values())}; do"
        " user=$(ps -o user:32= -p $pid) && echo $pid "
        "$(runuser -u $user -- cat /proc/$pid/environ | tr '\\0' '\\n' | grep ^GEARVISOR_RELEASE=);"
        " done"
    )
    release = {pid: path.rpartition("/")[2] for pid, path in map(str.split, printed.splitlines())}
    return {name: (pid, release[pid]) for name, pid in pids.items()}


def releases(host):
    return {release for _pid, release in processes(host).values()}


def deploy(lab, release, succeeds=True, **variables):
    given = {"deploy_release": release, **variables}
    return lab.play("playbooks/deploy.yml", "--extra-vars", json.dumps(given), succeeds=succeeds)


def keep_timeline(release, timeline, began):
    """For molecule/deploy/plot.py: seconds since the run began, answered, failed, workers that run."""
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    rows = [[round(at - began, 2), *numbers] for at, *numbers in timeline]
    (directory / f"{release}.json").write_text(json.dumps(rows))


@pytest.mark.on("first")
def test_a_good_release_goes_to_both_hosts_and_back(lab, host):
    hosts = [host, lab["second"]]
    with Load(lab, "first") as load:
        began = time.monotonic()
        _recap, shown = deploy(lab, "better")
        took = time.monotonic() - began
    assert [releases(each) for each in hosts] == [{"better"}] * 2
    # The terminal of the run showed where it was.
    assert re.search(r"\[first\] gearman-worker is rolled out: .*resize \d+ of 20", shown), shown
    assert [each.check_output("readlink /srv/app/current") for each in hosts] == [
        "/srv/app/releases/better"
    ] * 2
    print(f"both hosts in {took:.0f} s:", {k: len(v) for k, v in load.counts.items()})
    assert load.counts["failed"] == []
    assert sorted(load.counts["answered"]) == sorted(load.counts["submitted"])
    _recap, output = deploy(lab, "better", gearman_deploy_back=True)
    assert [releases(each) for each in hosts] == [{"good"}] * 2, output


@pytest.mark.on("first")
@pytest.mark.parametrize(
    "bad", [bad if bad in DEFAULT else pytest.param(bad, marks=pytest.mark.slow) for bad in BAD]
)
def test_a_bad_release_touches_one_batch_and_goes_back(lab, host, bad):
    before = processes(host)
    others = processes(lab["second"])
    began = time.time()
    with Load(lab, "first") as load:
        _recap, output = deploy(lab, bad, succeeds=False)
    took = time.time() - began
    after = processes(host)
    keep_timeline(bad, load.timeline, began)
    counts = {name: len(values) for name, values in load.counts.items()}
    touched = sorted(name for name in before if before[name] != after.get(name))
    print(f"{bad}: {took:.0f} s, touched {touched}, {counts}")
    # Ansible folds long messages.
    assert re.search(BAD[bad], " ".join(output.split()))
    assert "stays on /srv/app/releases/good" in output
    assert "No other host was touched" in output
    assert releases(host) == {"good"}
    assert host.check_output("readlink /srv/app/current") == "/srv/app/releases/good"
    assert len(after) == len(before)
    assert processes(lab["second"]) == others
    for program, most in BATCH.items():
        assert len([name for name in touched if name.startswith(program)]) <= most
    if bad not in FAILING:
        assert load.counts["failed"] == []
        assert counts["answered"] == counts["submitted"]
    if bad == "exits":
        assert output.count("database password is wrong") <= 2


@pytest.mark.slow
@pytest.mark.on("first")
@pytest.mark.parametrize(
    ("release", "max_rss", "says"),
    [
        ("better", "none", "Exited too quickly|is not registered with"),
        ("fails_all", 250, "jobs failed"),
    ],
    ids=["bad definition, good code", "good definition, bad code"],
)
def test_a_definition_goes_back_with_its_code(lab, host, release, max_rss, says):
    before, command = processes(host), host.check_output(COMMAND)
    with Load(lab, "first") as load:
        _recap, output = deploy(lab, release, succeeds=False, deploy_max_rss=max_rss)
    after = processes(host)
    assert re.search(says, " ".join(output.split())), output
    assert releases(host) == {"good"} and host.check_output(COMMAND) == command
    touched = [name for name in before if before[name] != after.get(name)]
    print(f"{release}, --max-rss {max_rss}: touched {touched}")
    assert len(after) == len(before) and len(touched) <= BATCH["resize"] + BATCH["report"]
    if release not in FAILING:
        assert load.counts["failed"] == []


@pytest.mark.slow
@pytest.mark.on("first")
def test_a_release_whose_jobs_answer_wrongly_goes_back(lab, host):
    """Seen only when all its processes have the release; the other host is not begun."""
    others, wrong = processes(lab["second"]), {"function": "other", "data": "x", "expect": "y"}
    with Load(lab, "first") as load:
        _recap, output = deploy(lab, "better", succeeds=False, gearman_worker_verify_jobs=[wrong])
    output = " ".join(output.split())
    assert "stays on /srv/app/releases/good" in output and "No other host was touched" in output
    assert releases(host) == {"good"}
    assert host.check_output("readlink /srv/app/current") == "/srv/app/releases/good"
    assert processes(lab["second"]) == others
    assert load.counts["failed"] == []


COMMAND = "grep -h ^command= /etc/supervisor/conf.d/resize*.conf | sort -u"
