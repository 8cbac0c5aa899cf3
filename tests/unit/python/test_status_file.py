# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Status files: what is written is read, and what strangers write does no harm."""

from __future__ import annotations

import json
import os
import time

import pytest
from gearvisor import status_file
from gearvisor.status_file import StatusFileError, parse, read, running
from gearvisor.status_writer import StatusFile


def snapshot(**members):
    return {
        "client_id": "me",
        "pid": os.getpid(),
        "pid_started": status_file.pid_started(os.getpid()),
        "done": 3,
        "functions": {"f": {"done": 3, "waits": {"count": 1, "max": 0.5}}},
        **members,
    }


def test_a_job_is_in_the_file_from_its_start_to_its_end(tmp_path):
    path = str(tmp_path / "p.json")
    file = StatusFile(path, [b"f"])
    file.write(snapshot())
    assert read(path)["job"] is None
    file.start_job(b"f", b"H:host:1", b"u", 1764000000.25, 0.5)
    expected = {
        "function": "f", "handle": "H:host:1", "unique": "u", "since": 1764000000.25, "wait": 0.5
    }  # fmt: skip
    assert read(path)["job"] == expected
    assert running(read(path)) == [expected]
    file.end_job()
    status = read(path)
    assert (status["job"], status["done"]) == (None, 3)
    assert status["functions"]["f"]["waits"]["max"] == 0.5
    file.remove()
    assert os.listdir(tmp_path) == []


def test_a_rewrite_keeps_the_jobs_in_progress(tmp_path):
    path = str(tmp_path / "p.json")
    file = StatusFile(path, [b"f"], lanes=3)
    file.write(snapshot())
    file.start_job(b"f", b"H:2", b"", 2.0, None, lane=2)
    file.start_job(b"f", b"H:1", b"", 1.0, None, lane=1)
    file.write(snapshot(done=4))
    assert [job["handle"] for job in running(read(path))] == ["H:1", "H:2"]
    file.end_job(lane=1)
    assert [job["handle"] for job in running(read(path))] == ["H:2"]
    assert read(path)["done"] == 4


@pytest.mark.parametrize(
    ("function", "handle", "unique"),
    [
        (b"f" * 512, b"H" * 1000, b"u" * 5000),
        (b"\xff" * 512, b"\xff" * 63, b'"\\\n\x00\x1b' * 20),
        (("\U0001f600" * 100).encode(), ("\U0001f600" * 20).encode(), b"\x80"),
    ],
)
def test_any_bytes_fit_and_stay_json(tmp_path, function, handle, unique):
    path = str(tmp_path / "p.json")
    file = StatusFile(path, [function])
    file.write(snapshot())
    file.start_job(function, handle, unique, 2**33, 1e9)
    job = read(path)["job"]
    assert job["function"] == function.decode(errors="replace")
    assert handle.decode(errors="replace").startswith(job["handle"][:10])
    assert read(path)["done"] == 3


def test_no_space_leaves_the_old_file_and_shows_it(tmp_path):
    path = str(tmp_path / "p.json")
    file = StatusFile(path, [b"f"])
    with pytest.raises(OSError):
        StatusFile(str(tmp_path / "missing/p.json"), [b"f"]).write(snapshot())
    file.start_job(b"f", b"H:1", b"u", 1.0, None)  # before the first write: kept for it
    file.write(snapshot())
    assert read(path)["job"]["handle"] == "H:1"


STRANGE = {
    "not JSON": b"{",
    "not an object": b"[1]",
    "not UTF-8": b'{"client_id": "\xff"}',
    "nested": b'{"job": ' + b"[" * 100_000,
    "a later format": b'{"version": 2}',
    "too large": b" " * (status_file.MAX_BYTES + 1),
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE.keys())
def test_what_is_no_status_file_is_refused(tmp_path, content):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(StatusFileError, match=str(path)):
        read(str(path))


def test_only_regular_files_are_read_and_links_not_followed(tmp_path):
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "secret")
    (tmp_path / "folder.json").mkdir()
    for name in ("fifo.json", "link.json", "folder.json", "missing.json"):
        with pytest.raises(StatusFileError, match=name):
            read(str(tmp_path / name))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"job": [], "other_jobs": 3, "functions": [], "servers": None, "paused": "f", "limits": 0},
        {"job": {"function": 1, "since": "now"}, "done": "many", "pid": -1, "rss": "big"},
        {"functions": {"f": None}, "paused": [1], "other_jobs": [1, {}], "waits": []},
        {"done": True, "updated": 10**400, "started": float("inf"), "seconds": float("nan")},
    ],
)
def test_members_have_their_types_whatever_the_file_holds(document):
    status = parse(json.dumps(document).encode())
    whole = parse(json.dumps(snapshot()).encode())
    assert set(status) == set(whole)
    running(status)
    for name in ("done", "failed", "died", "pid"):
        assert isinstance(status[name], int) and status[name] >= 0
    for name in ("started", "updated", "seconds"):
        assert abs(status[name]) < 2**63
    assert isinstance(status["client_id"], str)
    assert all(isinstance(each, str) for each in status["paused"])


def test_a_number_of_a_million_digits_takes_no_time():
    started = time.process_time()
    parse(b'{"pid": ' + b"9" * 1_000_000 + b"}")
    assert time.process_time() - started < 1


def test_a_process_is_alive_while_it_is_the_one_that_wrote(tmp_path):
    status = parse(json.dumps(snapshot()).encode())
    assert status_file.is_alive(status)
    assert not status_file.is_alive({**status, "pid_started": status["pid_started"] - 1})
    assert not status_file.is_alive(parse(b"{}"))


def test_the_default_path_is_that_of_the_process_where_its_user_has_a_directory(tmp_path):
    (tmp_path / "forge").mkdir()
    path = status_file.default_path("web1.example/mail_03", "forge", str(tmp_path))
    assert path == f"{tmp_path}/forge/mail_03.json"
    assert status_file.default_path("web1/..", "forge", str(tmp_path)).endswith("forge/%2E..json")
    assert status_file.default_path("w/a/b", "forge", str(tmp_path)).endswith("forge/a%2Fb.json")
    assert status_file.default_path("web1/mail_03", "other", str(tmp_path)) is None
    assert status_file.default_path("mail_03", "forge", str(tmp_path)) is None


def test_paths_are_those_of_all_users_but_not_behind_links(tmp_path):
    for path in ("a/1.json", "b/2.json", "b/2.json.77.tmp", "elsewhere/3.json"):
        (tmp_path / "run" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / path).write_text("{}")
    (tmp_path / "run/elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "run/c").symlink_to(tmp_path / "elsewhere")
    found = status_file.paths(str(tmp_path / "run"))
    assert [os.path.relpath(each, tmp_path / "run") for each in found] == ["a/1.json", "b/2.json"]
    assert status_file.paths(str(tmp_path / "missing")) == []
