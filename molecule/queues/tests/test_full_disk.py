"""A queue in a file on a disk that is full: jobs are refused, and none that was accepted is lost."""

import json

import pytest

pytestmark = pytest.mark.on("bookworm")
FILL = "/var/lib/gearvisor/fill"
QUEUE = {"queue": {"type": "libsqlite3"}, "restart": "force"}


def load(host, *arguments):
    command = " ".join(["cd /srv/queues && python3 load.py", *arguments])
    return json.loads(host.run(command).stdout)


def kill(lab, host):
    shown = "systemctl show --property MainPID --value gearman-job-server"
    old = host.check_output(shown)
    host.check_output(f"kill -9 {old}")
    lab.wait_until(lambda: host.check_output(shown) not in (old, "0"))
    lab.wait_until(lambda: load(host, "submit", "0") == {"submitted": 0})


@pytest.fixture
def full(lab, host):
    """Fill the disk but for so many kibibytes; it is emptied at the end."""
    assert not lab.module("bookworm", "gearman_job_server", QUEUE)["failed"]
    load(host, "work")

    def fill(left):
        host.run(f"head -c 1G /dev/zero >{FILL}; truncate -s -{left}K {FILL}")

    yield fill
    host.check_output(f"rm -f {FILL}")


def test_what_was_accepted_is_there_again(lab, host, full):
    full(200)
    taken = load(host, "submit", "20000")
    assert "QUEUE_ERROR" in taken["refused"] and taken["submitted"] > 100, taken
    kill(lab, host)
    host.check_output(f"rm {FILL}")
    jobs = load(host, "work")["jobs"]
    print("accepted until the disk was full", taken["submitted"], "there again", len(jobs))
    uniques = [unique for _function, unique, _payload in jobs]
    assert len(uniques) == len(set(uniques)) == taken["submitted"]


def test_jobs_that_are_done_meanwhile_are_done_again(lab, host, full):
    """gearmand cannot take them out of its file, so it closes the worker's connection, and does so until a restart."""
    assert load(host, "submit", "600") == {"submitted": 600}
    full(0)
    meanwhile = load(host, "work")
    assert "closed by the peer" in meanwhile["error"]
    host.check_output(f"rm {FILL}")
    later = load(host, "work")
    assert "closed by the peer" in later["error"]
    kill(lab, host)
    jobs = load(host, "work")["jobs"]
    done = [unique for part in (meanwhile, later) for _function, unique, _payload in part["jobs"]]
    again = [unique for _function, unique, _payload in jobs]
    print(
        "done with a full disk",
        len(done),
        "after it",
        len(again),
        "of them again",
        len({*done} & {*again}),
    )
    assert len({*done, *again}) == 600 and len(again) == len({*again})
    kill(lab, host)
    assert load(host, "work") == {"jobs": []}
