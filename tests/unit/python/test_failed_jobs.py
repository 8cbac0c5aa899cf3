# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failed jobs: found, read, retried and dropped, whatever else is in their directories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gearvisor
import pytest
from gearvisor import failed, failed_jobs, observe, unique_ids
from gearvisor.cli import main
from gearvisor.failed_jobs import FailedJobError
from gearvisor.failed_store import FailedStore

MANY = 100_000 if os.environ.get("GEARVISOR_TEST_ALL") else 5_000
SOURCES = Path(gearvisor.__file__).parents[1]


def attempt(unique=b"", outcome="exception", error="ValueError: no such image", at=None):
    at = time.time() if at is None else at
    return failed.attempt_of(
        unique=unique or unique_ids.make().encode(), handle=b"H:web1:1", outcome=outcome,
        error=error, traceback="Traceback\n  line\n", started=at - 1, failed=at,
        worker="web1/mail_01#42", release=None,
    )  # fmt: skip


@pytest.fixture
def base(tmp_path):
    for user in ("mail", "shop"):
        (tmp_path / "failed" / user).mkdir(parents=True)
    return tmp_path / "failed"


@pytest.fixture
def add(base):
    """add(function, payload, user, **facts of the attempt): keep a failed job; its id."""

    def add(function="resize", payload=b"in.png", user="mail", **facts):
        return FailedStore(str(base / user)).add(function, payload, attempt(**facts))

    return add


@pytest.fixture
def run(base, capfd):
    """run(*arguments): exit code, output and errors of `gearvisor failed`."""

    def run(verb, *arguments):
        try:
            code = main(["failed", verb, "--directory", str(base), *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        output, errors = capfd.readouterr()
        assert "Traceback" not in errors
        return code, output, errors

    return run


def listed(run, *arguments):
    return json.loads(run("list", "--json", *arguments)[1])["entries"]


def test_list_shows_the_newest_first_of_all_users(run, add):
    ids = [add(), add("mail", user="shop", error="OSError: disk full\n\x1b[2Jforged")]
    code, output, errors = run("list")
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0].split() == ["ID", "FAILED", "FUNCTION", "USER", "TIMES", "ERROR"]
    assert [line.split()[0] for line in lines[1:]] == ids[::-1]
    assert "OSError: disk full\\n\\x1b[2Jforged" in lines[1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], {"a", "b", "c"}),
        (["--function", "mail"], {"b"}),
        (["--since", "1h"], {"a", "b"}),
        (["--since", "2001-01-01"], {"a", "b", "c"}),
        (["--text", "DISK FULL"], {"c"}),
        (["--text", "needle"], {"b"}),
        (["--user", "shop"], {"b"}),
        (["--user", "nobody-here"], set()),
        (["--limit", "1"], {"c"}),
    ],
)
def test_filters(run, add, filters, expected):
    ids = {
        add(): "a",
        add("mail", b"hay needle hay", "shop"): "b",
        add(error="OSError: disk full", at=time.time() - 86400): "c",
    }
    assert {ids[each["id"]] for each in listed(run, *filters)} == expected


def test_show_prints_all_and_json_has_the_payload(run, add):
    entry_id = add(payload=b"\xff\x1b[2J")
    code, output, _ = run("show", entry_id[:30])
    assert code == 0
    for text in (
        "resize",
        "web1/mail_01#42",
        "ValueError: no such image",
        "  line",
        "5 bytes: \\xff",
    ):
        assert text in output
    (entry,) = json.loads(run("show", "--json", entry_id)[1])["entries"]
    assert failed.payload_of(entry) == b"\xff\x1b[2J"


def test_retry_submits_the_job_again_and_one_that_fails_again_is_one_entry(
    run, add, base, job_server, serve, wait_until
):
    def fail(job):
        raise RuntimeError(f"again {job.unique}")

    entry_id = add(payload=b"data")
    code, output, _ = run("retry", entry_id, "--server", job_server.address)
    assert (code, output) == (0, "1 submitted again\n")
    assert listed(run) == []
    store = FailedStore(str(base / "mail"))
    store.add("resize", b"data", attempt(f"gvr:{entry_id}:2".encode(), error="still"))
    (entry,) = listed(run)
    assert (entry["id"], entry["times"], entry["error"]) == (entry_id, 2, "still")
    (shown,) = json.loads(run("show", "--json", entry_id)[1])["entries"]
    assert [each["error"] for each in shown["attempts"]] == ["ValueError: no such image", "still"]
    assert run("retry", "--all", "--server", job_server.address)[0] == 0
    seen = []
    serve([job_server.address], {"resize": lambda job: seen.append((job.unique, job.data))})
    wait_until(lambda: len(seen) == 2, "both jobs")
    assert {unique for unique, _ in seen} == {f"gvr:{entry_id}:2", f"gvr:{entry_id}:3"}
    assert {data for _, data in seen} == {b"data"}


@pytest.mark.parametrize("verb", ["retry", "drop"])
def test_which_ones_has_to_be_named(run, add, verb):
    entry_id = add()
    assert run(verb)[0] == 2
    assert run(verb, "--function", "resize")[0] == 2
    assert run(verb, entry_id, "--all")[0] == 2
    code, _, errors = run(verb, "ffffffff")
    assert code == 1 and "no failed job has this id" in errors
    assert run(verb, "--missing-ok", "ffffffff")[0] == 0
    assert len(listed(run)) == 1


def test_retry_without_a_job_server_keeps_the_entry(run, add, closed_port, base):
    entry_id = add()
    code, _, errors = run("retry", entry_id, "--server", closed_port)
    assert code == 3 and "no job server answers" in errors
    assert os.listdir(base / "mail") == [f"{entry_id}.json"]


def test_a_payload_that_was_not_kept_cannot_be_retried(run, base, job_server):
    FailedStore(str(base / "mail"), keep_payload=False).add("f", b"secret", attempt())
    code, _, errors = run("retry", "--all", "--server", job_server.address)
    assert code == 1 and "its payload was not kept (6 bytes)" in errors
    assert len(listed(run)) == 1


def test_drop_forgets_what_the_filters_leave(run, add):
    add("mail")
    kept = add("resize")
    assert run("drop", "--all", "--function", "mail")[:2] == (0, "1 dropped\n")
    assert [each["id"] for each in listed(run)] == [kept]


def test_what_does_not_belong_there_is_reported_and_left(run, add, base, tmp_path):
    good = add()
    other = unique_ids.make()
    names = {kind: base / "mail" / f"{unique_ids.make()}.json" for kind in ["link", "fifo", "text"]}
    (tmp_path / "secret").write_text("secret")
    names["link"].symlink_to(tmp_path / "secret")
    os.mkfifo(names["fifo"])
    names["text"].write_text("[" * 100_000)
    (base / "mail" / f".{other}.2.retried").write_text("{}")
    (base / "link").symlink_to(tmp_path)
    code, output, errors = run("list", "--json")
    assert [each["id"] for each in json.loads(output)["entries"]] == [good]
    assert code == 1 and len(errors.splitlines()) == 3 and "secret" not in output
    assert run("drop", "--all")[0] == 1
    assert all(os.path.lexists(path) for path in names.values())


def test_a_directory_out_of_reach_is_named(run, base):
    code, _, errors = run("list", "--directory", base / "nowhere")
    assert code == 1 and "No such file or directory" in errors and "group gearvisor" in errors


# A process that is killed at its Nth change of files or its Nth packet: an audit hook does it.
KILLED = """
import os, sys
left = int(sys.argv[1])
def step(event, _):
    global left
    if event in ("os.rename", "os.link", "os.remove", "socket.connect"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(step)
from gearvisor import connection
send = connection.Connection.send
def killed_after(self, *arguments):
    send(self, *arguments)
    step("os.rename", None)
connection.Connection.send = killed_after
from gearvisor.cli import main
sys.exit(main(sys.argv[2:]))
"""


def killed_at(step, *arguments):
    return subprocess.run(
        [sys.executable, "-c", KILLED, str(step), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, timeout=60,
    ).returncode  # fmt: skip


def test_a_retry_that_is_killed_loses_nothing(run, add, base, job_server, wait_until):
    for step in range(1, 20):
        entry_id = add(payload=b"%d" % step)
        command = ["failed", "retry", "--directory", base, "--server", job_server.address, entry_id]
        code = killed_at(step, *command)
        left = [each["id"] for each in listed(run)]
        with job_server.admin() as admin:
            queued = any(entry_id in unique for unique in admin.unique_ids())
        assert entry_id in left or queued, f"lost at step {step}"
        assert not [name for name in os.listdir(base / "mail") if name.endswith(".retrying")]
        if left:
            assert run("drop", "--all")[0] == 0
        if code == 0:
            break
    assert 5 < step < 20, "each step was tried, and the last run was not killed"


def test_a_drop_that_is_killed_leaves_whole_entries(run, add, base):
    for _ in range(5):
        add()
    assert killed_at(3, "failed", "drop", "--all", "--directory", base) == -9
    assert len(listed(run)) == 3


def test_an_entry_that_is_being_retried_is_left_alone(run, add, base):
    entry_id = add()
    own = f"{os.getpid()}-{failed_jobs.pid_started(os.getpid())}"
    place = failed_jobs.places(str(base))[0]
    os.rename(place.path, base / "mail" / f".{entry_id}.2.{own}.retrying")
    assert listed(run) == []
    with pytest.raises(FailedJobError, match="No such file"):
        failed_jobs.retry(place, lambda *_: None)


def test_many_entries_are_listed_soon(run, base):
    """Only the newest are read: 100,000 take a fraction of a second."""
    store = FailedStore(str(base / "mail"))
    content = (base / "mail" / f"{store.add('resize', b'x' * 100, attempt())}.json").read_bytes()
    own = json.loads(content)["id"]
    for _ in range(MANY):
        entry_id = unique_ids.make()
        (base / "mail" / f"{entry_id}.json").write_bytes(
            content.replace(own.encode(), entry_id.encode())
        )
    started = time.process_time()
    code, output, errors = run("list")
    assert time.process_time() - started < 5, "seconds of processor time"
    assert code == 0 and len(output.splitlines()) == 51
    assert f"the newest 50; {MANY + 1} in all" in errors
    assert failed_jobs.store_size(str(base))[0] == MANY + 1


@pytest.mark.parametrize("text", ["\ud800", "\udcff", "a\nb\x1b[2J"])
def test_text_that_is_no_text_hides_no_other_job(base, add, run, text):
    odd, plain = add(), add(error="plain")
    path = base / "mail" / f"{odd}.json"
    entry = json.loads(path.read_text())
    texts = dict.fromkeys(("unique", "handle", "error", "traceback", "worker", "release"), text)
    entry.update(texts, function=text, attempts=[{**entry["attempts"][0], **texts}])
    path.write_text(json.dumps(entry))
    code, output, _ = run("list")
    assert (code, plain in output, odd in output) == (0, True, True)
    assert run("list", "--json")[0] == run("show", odd)[0] == run("list", "--text", "x")[0] == 0
    assert {each.id for each in observe.failures(str(base))} == {odd, plain}
