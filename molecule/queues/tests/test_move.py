"""The jobs that wait at one job server are moved to another: each is done once, whatever is cut off."""

import json

import pytest

pytestmark = pytest.mark.on("trixie")
MOVE = [
    *("--extra-vars", "gearman_move_from=trixie"),
    *("--extra-vars", "gearman_move_to=bookworm"),
]
FILE = "/var/lib/gearvisor/gearmand/queue.sqlite3"


def load(host, *arguments):
    command = " ".join(["cd /srv/queues && python3 load.py", *arguments])
    return json.loads(host.run(command).stdout)


@pytest.fixture
def both(lab):
    """Both job servers with an empty queue in a file."""
    for name in ("trixie", "bookworm"):
        queue = {"type": "libsqlite3"}
        result = lab.module(name, "gearman_job_server", {"queue": queue, "restart": "force"})
        assert not result["failed"], result
        load(lab[name], "work")
    return lab["trixie"], lab["bookworm"]


def start(lab):
    result = lab.module("trixie", "gearman_job_server", {"queue": {"type": "libsqlite3"}})
    assert not result["failed"], result


def files(host):
    return host.check_output("ls -A /var/lib/gearvisor/gearmand").split()


def test_each_job_is_there_once(lab, both, host):
    first, second = both
    load(first, "submit", "600")
    lab.play("playbooks/move_queue.yml", *MOVE)
    assert not first.service("gearman-job-server").is_running
    jobs = load(second, "work")["jobs"]
    assert len(jobs) == len({unique for _function, unique, _payload in jobs}) == 600
    # High before normal before low, as they were.
    order = [("high", "normal", "low").index(unique.split("-")[0]) for _f, unique, _p in jobs]
    assert order == sorted(order)
    start(lab)
    assert load(first, "work") == {"jobs": []}
    assert all(name.startswith("queue.sqlite3") for name in files(first) + files(second))
    assert not [name for name in files(first) + files(second) if "-20" in name]


@pytest.mark.slow
@pytest.mark.parametrize("merged", [False, True])
def test_a_move_that_was_cut_off_is_completed(lab, both, host, merged):
    """As a run leaves it that put the first queue aside, and maybe moved its jobs already."""
    first, second = both
    load(first, "submit", "50")
    first.check_output("systemctl stop gearman-job-server")
    moved, copy = f"{FILE}.moved-20260101T000000Z", f"{FILE}.incoming-20260101T000000Z"
    first.check_output(f"mv {FILE} {moved}")
    if merged:
        # Its jobs are at the second, which has done them since; the copy is empty.
        second.check_output(f"cp -p {FILE} {copy}")
    lab.play("playbooks/move_queue.yml", *MOVE)
    assert len(load(second, "work")["jobs"]) == (0 if merged else 50)
    start(lab)
    assert load(first, "work") == {"jobs": []}
    assert not [name for name in files(first) + files(second) if "-20" in name]


def test_it_asks_for_two_job_servers(lab, host):
    _recap, output = lab.play("playbooks/move_queue.yml", succeeds=False)
    assert "are not two hosts of the group gearman_job_servers" in " ".join(output.split())
