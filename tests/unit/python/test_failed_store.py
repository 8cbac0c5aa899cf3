# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failed jobs: what is kept, within which bounds, and what strangers' files do."""

from __future__ import annotations

import json
import os
import signal
import stat

import pytest
from gearvisor import failed
from gearvisor.client import Client
from gearvisor.failed_store import TRIM_EVERY, FailedStore

ID = "0190f5fe-0000-7000-8000-000000000000"


def attempt(unique=b"u", error="ValueError: no", **members):
    return {
        **failed.attempt_of(
            unique=unique, handle=b"H:1", outcome="exception", error=error, traceback="Trace",
            started=1.0, failed=2.0, worker="me", release=None,
        ),
        **members,
    }  # fmt: skip


def entries(directory):
    found = {}
    for name in filter(failed.id_of, os.listdir(directory)):
        with open(directory / name, "rb") as file:
            found[failed.id_of(name)] = failed.parse(file.read(), failed.id_of(name))
    return found


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 100])
def test_a_failed_job_is_one_file_with_its_payload(tmp_path, payload):
    old = os.umask(0o077)
    try:
        entry_id = FailedStore(str(tmp_path)).add("resize", payload, attempt())
    finally:
        os.umask(old)
    assert os.listdir(tmp_path) == [failed.file_name(entry_id)]
    assert stat.S_IMODE(os.stat(tmp_path / failed.file_name(entry_id)).st_mode) == 0o640
    entry = entries(tmp_path)[entry_id]
    assert failed.payload_of(entry) == payload
    assert (entry["function"], entry["unique"], entry["error"], entry["traceback"]) == (
        "resize", "u", "ValueError: no", "Trace",
    )  # fmt: skip
    assert len(entry["attempts"]) == 1


def test_payloads_that_are_secret_or_huge_are_left_out_but_measured(tmp_path, monkeypatch):
    FailedStore(str(tmp_path), keep_payload=False).add("f", b"secret", attempt())
    (entry,) = entries(tmp_path).values()
    assert (entry["payload"], entry["payload_bytes"]) == (None, 6)
    monkeypatch.setattr(failed, "MAX_PAYLOAD", 10)
    entry_id = FailedStore(str(tmp_path)).add("f", bytes(11), attempt())
    assert entries(tmp_path)[entry_id]["payload"] is None
    assert b"secret" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def test_a_retry_that_fails_again_is_the_same_entry(tmp_path):
    store = FailedStore(str(tmp_path))
    entry_id = store.add("f", b"data", attempt())
    for number in (2, 3):
        unique = failed.retry_unique(entry_id, number).encode()
        assert len(unique) <= 63
        assert store.add("f", b"data", attempt(unique, f"again {number}")) == entry_id
    (entry,) = entries(tmp_path).values()
    assert [each["error"] for each in entry["attempts"]] == ["ValueError: no", "again 2", "again 3"]
    assert (entry["error"], entry["unique"]) == ("again 3", f"gvr:{entry_id}:3")
    assert failed.payload_of(entry) == b"data"


def test_a_retry_that_fails_on_another_host_is_an_entry_of_the_same_id(tmp_path):
    unique = failed.retry_unique(ID, 2).encode()
    assert FailedStore(str(tmp_path)).add("f", b"data", attempt(unique)) == ID
    assert len(entries(tmp_path)[ID]["attempts"]) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[" * 10_000, b'{"id": "other"}'])
def test_an_entry_that_is_broken_is_made_again(tmp_path, content):
    (tmp_path / failed.file_name(ID)).write_bytes(content)
    FailedStore(str(tmp_path)).add("f", b"d", attempt(failed.retry_unique(ID, 2).encode()))
    assert failed.payload_of(entries(tmp_path)[ID]) == b"d"


def test_attempts_of_an_entry_are_bounded(tmp_path):
    entry = failed.entry_of(ID, "f", attempt(error="first"), b"", 0)
    for number in range(300):
        entry = failed.with_attempt(entry, attempt(error=str(number)))
    errors = [each["error"] for each in entry["attempts"]]
    assert (len(errors), errors[0], errors[-1]) == (failed.MAX_ATTEMPTS, "first", "299")


def test_the_number_of_entries_is_bounded_and_the_oldest_go(tmp_path):
    stores = [FailedStore(str(tmp_path), max_entries=100) for _ in range(2)]
    ids = [stores[number % 2].add("f", b"", attempt()) for number in range(300)]
    left = sorted(entries(tmp_path))
    assert len(left) <= 100 + 2 * TRIM_EVERY
    assert ids[-1] in left and ids[0] not in left
    assert sum(store.dropped for store in stores) == 300 - len(left)
    assert sum(store.kept for store in stores) == 300


def test_the_bytes_of_entries_are_bounded(tmp_path):
    store = FailedStore(str(tmp_path), max_bytes=100_000)
    for _ in range(100):
        store.add("f", bytes(5000), attempt())
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 100_000 + TRIM_EVERY * 8000


def test_files_of_others_are_left_alone_but_not_what_was_never_finished(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f".{ID}.1.tmp").write_text("half")
    os.utime(tmp_path / f".{ID}.1.tmp", (1, 1))
    FailedStore(str(tmp_path), max_entries=1).add("f", b"", attempt())
    assert sorted(name for name in os.listdir(tmp_path) if not failed.id_of(name)) == ["notes.txt"]


def test_links_are_not_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "secret").write_text("untouched")
    (tmp_path / "store" / failed.file_name(ID)).symlink_to(tmp_path / "secret")
    (tmp_path / "store" / f".{ID}.{os.getpid()}.tmp").symlink_to(tmp_path / "secret")
    store = FailedStore(str(tmp_path / "store"))
    with pytest.raises(OSError):
        store.add("f", b"", attempt(failed.retry_unique(ID, 2).encode()))
    store.add("f", b"", attempt(failed.retry_unique(ID, 2).encode()))  # the link was removed
    assert (tmp_path / "secret").read_text() == "untouched"


@pytest.mark.parametrize(("function", "payload"), [("other", b"in"), ("resize", b"in.")])
def test_another_job_with_a_retrys_id_is_kept_whole(tmp_path, function, payload):
    store = FailedStore(str(tmp_path))
    first = store.add("resize", b"in", attempt())
    second = store.add(function, payload, attempt(f"gvr:{first}:2".encode()), whole=True)
    assert second != first
    again = attempt(f"gvr:{first}:2".encode())
    assert store.add("resize", b"in", again, whole=True) == first
    kept = {name: json.loads((tmp_path / name).read_text()) for name in os.listdir(tmp_path)}
    assert failed.payload_of(kept[f"{second}.json"]) == payload
    assert len(kept[f"{first}.json"]["attempts"]) == 2


def test_a_fifo_that_lies_in_wait_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / f".{ID}.{os.getpid()}.tmp")
    store = FailedStore(str(tmp_path))
    with pytest.raises(OSError):
        store.add("resize", b"", attempt(f"gvr:{ID}:2".encode()))
    store.add("resize", b"", attempt(f"gvr:{ID}:2".encode()))
    assert os.listdir(tmp_path) == [f"{ID}.json"]


def test_a_store_that_cannot_be_written_counts(tmp_path):
    store = FailedStore(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        store.add("f", b"", attempt())
    assert (store.kept, store.unwritten) == (0, 1)


@pytest.mark.parametrize(
    "members",
    [
        {"version": 2},
        {"version": None},
        {"function": ""},
        {"payload": "no base64!"},
        {"payload": 7},
        {"id": "other"},
    ],
)
def test_what_is_no_entry_is_refused(members):
    entry = failed.entry_of(ID, "f", attempt(), b"x", 1)
    with pytest.raises(ValueError):
        failed.parse(json.dumps({**entry, **members}).encode(), ID)


def test_members_have_their_types_whatever_the_file_holds():
    strange = {"version": 1, "id": ID, "function": "f", "unique": 3, "traceback": [], "failed": "x",
               "attempts": [1, {}, {"error": None}], "payload_bytes": -5, "started": 1e400}  # fmt: skip
    entry = failed.parse(json.dumps(strange).encode(), ID)
    assert set(entry) == set(failed.entry_of(ID, "f", attempt(), b"x", 1))
    assert (entry["unique"], entry["traceback"], entry["failed"]) == ("", None, 0)
    assert (entry["payload"], entry["payload_bytes"], len(entry["attempts"])) == (None, 0, 2)


@pytest.mark.parametrize(
    "unique",
    [b"", b"u", b"gvr:", b"gvr:x:2", f"gvr:{ID}:0".encode(), f"gvr:{ID}:2\n".encode(), f"gvr:{ID}:../x".encode()],
)  # fmt: skip
def test_other_ids_are_no_retries(unique):
    assert failed.parse_retry(unique) is None


KILLED = """
import os, signal

def fails(job):
    raise ValueError("no")

step, calls = os.environ.get("KILL_AT"), {}
for name in ("fsync", "replace"):
    def wrapped(*arguments, _name=name, _function=getattr(os, name), **named):
        calls[_name] = calls.get(_name, 0) + 1
        if step == f"before {_name} {calls[_name]}":
            os.kill(os.getpid(), signal.SIGKILL)
        _function(*arguments, **named)
        if step == f"after {_name} {calls[_name]}":
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(os, name, wrapped)
"""


@pytest.mark.parametrize(
    "step",
    ["before fsync 1", "after fsync 1", "before replace 1", "after replace 1", "after fsync 2"],
)
def test_a_worker_killed_at_any_step_of_keeping_a_job_loses_nothing(
    tmp_path, job_server, command, wait_until, step
):
    (tmp_path / "mine.py").write_text(KILLED)
    (tmp_path / "failed").mkdir()
    options = ("worker", "--server", job_server.address, "--failed-dir", "failed", "mine:fails")
    with Client([job_server.address], timeout=60) as client:
        client.submit("fails", b"payload", background=True)
    assert command(*options, env={"KILL_AT": step}).wait(60) == -signal.SIGKILL
    job_server.settles("fails", 1, 0)  # not reported, so handed out again
    command(*options)
    wait_until(lambda: job_server.status("fails")[:2] == (0, 0), "reported")
    kept = entries(tmp_path / "failed")
    assert 1 <= len(kept) <= 2, "at most a duplicate"
    assert all(failed.payload_of(entry) == b"payload" for entry in kept.values())
