import json
import os
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import (
    changes,
    journal,
    processes,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.recovery import UNDO


@pytest.fixture
def host(tmp_path):
    (tmp_path / "etc").mkdir()
    return Host(None, root=str(tmp_path), module="test")


@pytest.fixture
def dead():
    """The pid and start of a process that is gone."""
    with subprocess.Popen(["sleep", "60"]) as process:
        start = processes.started(process.pid)
        process.kill()
    return {"pid": process.pid, "pid_started": start}


def leave(host, dead, **changed):
    """Leave the journal of a run that has died after it had rewritten /etc/x."""
    path = host.path("/etc/x")
    number = journal.note(
        host,
        changes.KIND,
        paths=[
            changes._noted("/etc/x", changes.state_of(path), changes.State("file", data=b"new"))
        ],
        directories=[],
    )
    assert number == 1
    (own,) = os.listdir(host.path(journal.DIRECTORY))
    own = os.path.join(host.path(journal.DIRECTORY), own)
    with open(own) as file:
        record = json.load(file)
    os.unlink(own)
    record.update(dead)
    record.update(changed)
    left = os.path.join(host.path(journal.DIRECTORY), "left.json")
    with open(left, "w") as file:
        json.dump(record, file)
    return left


def test_what_a_dead_run_wrote_is_taken_back(host, tmp_path, dead):
    (tmp_path / "etc/x").write_text("old")
    left = leave(host, dead)
    (tmp_path / "etc/x").write_text("new")
    said = journal.recover(host, UNDO, report_only=True)
    assert "A run of test was interrupted" in said[0]
    assert (tmp_path / "etc/x").read_text() == "new"
    assert journal.recover(host, UNDO) == [
        "A run of test was interrupted: /etc/x is as it was before"
    ]
    assert (tmp_path / "etc/x").read_text() == "old"
    assert not os.path.exists(left)
    assert journal.recover(host, UNDO) == []


def test_what_others_changed_since_is_left(host, tmp_path, dead):
    (tmp_path / "etc/x").write_text("old")
    leave(host, dead)
    (tmp_path / "etc/x").write_text("theirs")
    assert "changed since by others" in journal.recover(host, UNDO)[0]
    assert (tmp_path / "etc/x").read_text() == "theirs"


def test_a_run_that_lives_is_left_alone(host, tmp_path):
    alive = {"pid": os.getppid(), "pid_started": processes.started(os.getppid())}
    left = leave(host, alive)
    assert journal.recover(host, UNDO) == []
    assert os.path.exists(left)


def test_a_pid_of_another_boot_is_not_taken_for_the_run(host, tmp_path):
    alive = {"pid": os.getppid(), "pid_started": processes.started(os.getppid())}
    leave(host, alive, boot_id="another")
    assert "interrupted" in journal.recover(host, UNDO)[0]


DAMAGED = {
    "not JSON": b"{",
    "not text": b"\xff\xfe",
    "not a record": b"[]",
    "newer": b'{"version": 99}',
    "empty": b"",
    "parts missing": b'{"version": 1, "module": "x"}',
    "damaged entry": b'{"version":1,"module":"x","pid":1,"pid_started":1,"boot_id":"","entries":[7]}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged(host, content):
    os.makedirs(host.path(journal.DIRECTORY))
    path = os.path.join(host.path(journal.DIRECTORY), "x.json")
    with open(path, "wb") as file:
        file.write(content)
    (said,) = journal.recover(host, UNDO)
    assert said.startswith("The journal /var/lib/gearvisor/journal/x.json cannot be used: ")
    assert os.path.exists(path)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_foreign(host, kind, tmp_path):
    os.makedirs(host.path(journal.DIRECTORY))
    path = os.path.join(host.path(journal.DIRECTORY), "x.json")
    if kind == "link":
        (tmp_path / "elsewhere").write_text("{}")
        os.symlink(tmp_path / "elsewhere", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        os.mkdir(path)
    (said,) = journal.recover(host, UNDO)
    assert "cannot be used" in said


def test_an_entry_of_an_unknown_kind_stays_and_is_reported(host, dead):
    left = leave(host, dead)
    with open(left) as file:
        record = json.load(file)
    record["entries"].append({"number": 2, "kind": "unheard", "facts": {}})
    with open(left, "w") as file:
        json.dump(record, file)
    assert "unheard could not be taken back" in journal.recover(host, UNDO)[0]
    with open(left) as file:
        assert [entry["kind"] for entry in json.load(file)["entries"]] == ["unheard"]
