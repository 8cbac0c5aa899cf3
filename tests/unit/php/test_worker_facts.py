# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What PHP workers write, as docs/worker-facts.md has it: read with the Python package's readers."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import time

import pytest
from gearvisor import failed, status_file
from gearvisor.client import Client
from php_harness import LEFT_JOB, PHP_FOLDER, PhpWorker, run_php, wait_until

FORMAT = PHP_FOLDER.parent / "docs/worker-facts.md"
FUNCTIONS = """<?php return [
    'kill' => function (string $data) { posix_kill(getmypid(), SIGKILL); },
    'read' => fn (string $file) => file_get_contents($file),
    'throw' => fn (string $data) => throw new DomainException($data),
    'refuse' => fn (string $data) => throw new Gearvisor\\JobFailed($data),
    'send_fail' => function (string $data, GearmanJob $job) { $job->sendFail(); },
    'send_exception' => function (string $data, GearmanJob $job) { $job->sendException($data); },
    'stubborn' => function (string $data) {
        while (true) { try { usleep(10000); } catch (Throwable) {} }
    },
    'long' => function (string $data) { while (true) { usleep(10000); } },
    "gr\\u{fc}n \\x1b" => fn (string $data) => $data,
];
"""
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture
def functions(tmp_path):
    file = tmp_path / "functions.php"
    file.write_text(FUNCTIONS)
    return f"--functions={file}"


def examples():
    """The JSON documents in the page that has the format."""
    return [json.loads(text) for text in re.findall(r"```json\n(.+?)```", FORMAT.read_text(), re.S)]


def lines(worker, outcome):
    return [entry for entry in worker.entries() if entry.get("outcome") == outcome]


# The status file


def test_members_of_the_status_file(
    new_server, new_worker, client, functions, tmp_path, monkeypatch
):
    monkeypatch.setenv("SUPERVISOR_GROUP_NAME", "mail")
    monkeypatch.setenv("SUPERVISOR_PROCESS_NAME", "mail_03")
    monkeypatch.setenv("GEARVISOR_RELEASE", "releases/7")
    server, path = new_server(), tmp_path / "status.json"
    worker = new_worker(
        [server],
        functions,
        f"--status-file={path}",
        "--max-jobs=100",
        "--splay=0",
        "--job-timeout=60",
    )
    assert client(server, "read", __file__).returncode == 0
    assert client(server, "--unique=mine", "read", __file__).returncode == 0
    assert client(server, "throw", "no").returncode == 1
    status = wait_until(
        lambda: (status := status_file.read(str(path)))["done"] + status["failed"] == 3 and status
    )
    raw = json.loads(path.read_text())
    (example, *_others) = examples()
    assert set(raw) == set(example)
    for member in ("waits", "limits", "failed_jobs"):
        assert set(raw[member]) == set(example[member])
    assert raw["functions"].keys() == {
        "kill", "read", "throw", "refuse", "send_fail", "send_exception", "long", "stubborn", "gr\u00fcn \x1b",
    }  # fmt: skip
    assert set(raw["functions"]["read"]) == set(example["functions"]["resize"])
    assert (raw["version"], raw["language"], raw["died"]) == (1, "php", 0)
    assert (raw["program"], raw["process"], raw["release"]) == ("mail", "mail_03", "releases/7")
    assert (raw["pid"], status["job"]) == (worker.process.pid, None)
    assert status_file.is_alive(status)
    assert 5 < raw["rss"] < 500
    limits = {"max_jobs": 100, "max_seconds": None, "max_rss": None}
    assert raw["limits"] == {**limits, "job_timeout": 60, "stop_timeout": None}
    # Of the job with an id of another kind the wait is unknown.
    assert raw["functions"]["read"]["waits"]["count"] == 1
    assert raw["waits"]["count"] == 2
    assert 0 <= raw["waits"]["last"] <= raw["waits"]["max"] <= raw["waits"]["seconds"] < 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_job_in_progress(new_server, new_worker, client, functions, tmp_path):
    server, path, fifo = new_server(), tmp_path / "status.json", tmp_path / "fifo"
    os.mkfifo(fifo)
    new_worker([server], functions, f"--status-file={path}")
    handle = (
        client(server, "--background", "--unique=u-1", "read", str(fifo)).stdout.decode().strip()
    )
    job = wait_until(lambda: status_file.read(str(path))["job"])
    assert (job["function"], job["handle"], job["unique"]) == ("read", handle, "u-1")
    assert abs(time.time() - job["since"]) < 60 and job["wait"] is None
    with open(fifo, "w"):
        pass
    wait_until(lambda: status_file.read(str(path))["job"] is None)


def test_names_of_any_kind(new_server, new_worker, functions, tmp_path, client):
    server, path = new_server(), tmp_path / "status.json"
    worker = new_worker([server], functions, f"--status-file={path}", "--log-jobs")
    for name in ("gr\u00fcn \x1b",):
        assert client(server, name, "x").stdout == b"x"
        assert status_file.read(str(path))["functions"][name]["done"] >= 0
    assert r"of grün \x1b done" in worker.log()


@pytest.mark.parametrize("death", ["killed in its job", "left its job"])
def test_a_job_that_kills_its_worker_is_named(
    new_server, new_worker, client, functions, tmp_path, death
):
    server, path = new_server(), tmp_path / "status.json"
    options = (functions, f"--status-file={path}", "--log-format=json")
    worker = new_worker([server], *options, "--job-timeout=0.2")
    function = "kill" if death == "killed in its job" else "stubborn"
    done = client(server, "--background", "--unique=poison\x1b", function, "x")
    handle = done.stdout.decode().strip()
    assert worker.process.wait(timeout=60) == (-signal.SIGKILL if function == "kill" else LEFT_JOB)
    server.stop()
    server.start()  # without the job
    second = new_worker([server], *options)
    (entry,) = lines(second, "died")
    assert (
        entry["message"]
        == f"process {worker.process.pid} died in job {handle} of function {function}, unique poison\x1b"
    )
    assert (entry["level"], entry["handle"], entry["unique"]) == ("error", handle, "poison\x1b")
    wait_until(lambda: status_file.read(str(path))["died"] == 1)
    # It counts on while its predecessors die, ...
    second.process.kill()
    second.process.wait()
    third = new_worker([server], *options, client_id="third")
    wait_until(lambda: status_file.read(str(path))["client_id"] == "third")
    assert status_file.read(str(path))["died"] == 1 and lines(third, "died") == []
    # ... and begins at 0 after one left in order.
    third.process.terminate()
    assert third.process.wait(timeout=60) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"job": 1}', '{"job": {"function": []}}', "\xff" * 99]
)
def test_a_status_file_of_any_content(new_server, new_worker, tmp_path, content):
    path = tmp_path / "status.json"
    path.write_text(content)
    server = new_server()
    worker = new_worker([server], f"--status-file={path}")
    wait_until(lambda: status_file.read(str(path))["pid"] == worker.process.pid)
    assert worker.process.poll() is None


@pytest.mark.parametrize(
    "worker",
    [
        "web1.example/mail_03",
        "web1/a b",
        "web1/.hidden",
        "web1/..",
        "web1/a/b",
        "web1/gr\u00fcn",
        "web1",
        "",
    ],
)
def test_default_path(tmp_path, worker):
    (tmp_path / "user").mkdir()
    code = (
        f"require '{PHP_FOLDER}/autoload.php'; [, $worker, $user, $directory] = $argv;"
        "echo json_encode(Gearvisor\\StatusFile::defaultPath($worker, $user, $directory));"
    )
    for user in ("user", "nobody"):
        done = run_php("-r", code, worker, user, str(tmp_path))
        assert json.loads(done.stdout) == status_file.default_path(worker, user, str(tmp_path))


def test_client_id_from_the_environment(new_server, tmp_path, monkeypatch):
    monkeypatch.setenv("GEARVISOR_WORKER", "web1.example/mail_03")
    server = new_server()
    worker = PhpWorker(tmp_path / "log", [server], client_id=None)
    try:
        server.wait_for_worker(f"web1.example/mail_03#{worker.process.pid}")
    finally:
        worker.stop()


@pytest.mark.parametrize("name", ["a b", "x" * 127])
def test_client_id_that_does_not_fit(name):
    done = run_php(str(PHP_FOLDER / "worker.php"), env={**os.environ, "GEARVISOR_WORKER": name})
    assert done.returncode == 2
    assert b"GEARVISOR_WORKER" in done.stderr and b"1 to 127" in done.stderr


# Waits


def test_the_unique_ids_of_clients_have_the_time(new_server, new_worker, client, functions):
    server = new_server()
    assert client(server, "--background", "later", "x").returncode == 0
    with server.connect() as connection, connection.makefile("rwb") as stream:
        stream.write(b"show unique jobs\r\n")
        stream.flush()
        unique = stream.readline().decode().strip()
    assert UUID7.fullmatch(unique)
    assert abs(int(unique.replace("-", "")[:12], 16) / 1000 - time.time()) < 60


def test_waits_are_never_wrong():
    now, minute = 1_764_000_000.0, "019ab3f4-d400-7000-8000-000000000000"
    made = int(minute.replace("-", "")[:12], 16) / 1000
    code = (
        f"require '{PHP_FOLDER}/autoload.php'; $made = json_decode($argv[1]);"
        "foreach (json_decode($argv[2]) as $id) { $all[] = Gearvisor\\UuidV7::madeAt($id, $made); }"
        "echo json_encode($all);"
    )
    ids = [minute, minute.upper(), minute[:-1], minute.replace("-7", "-4"), "x", "", minute + "\n"]
    for clock, expected in [(made + 60, made), (made - 60, made - 60), (made - 301, None)]:
        done = run_php("-r", code, json.dumps(clock), json.dumps(ids))
        assert json.loads(done.stdout) == [expected] + [None] * 6, (now, clock)


def test_two_workers_with_one_status_file(new_server, new_worker, tmp_path):
    server, path = new_server(), tmp_path / "status.json"
    first = new_worker([server], f"--status-file={path}")
    wait_until(path.exists)
    second = new_worker([server], f"--status-file={path}", client_id="second")
    second.wait_for_log(f"process {first.process.pid} writes the same status file")


def test_files_that_are_turned_off(
    new_server, new_worker, client, functions, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    server = new_server()
    new_worker([server], functions, "--status-file=", "--failed-dir=", "--paused-dir=")
    client(server, "throw", "x")
    assert sorted(os.listdir(tmp_path)) == ["functions.php", "log0"]


# The log


def test_log_of_jobs(new_server, new_worker, client, functions):
    server = new_server()
    worker = new_worker([server], functions, "--log-jobs", "--log-format=json")
    client(server, "--unique=one", "read", __file__)
    client(server, "--unique=two", "refuse", "no")
    ends = wait_until(lambda: len(lines(worker, "failed")) == 1 and worker.entries())
    jobs = [
        (entry["unique"], entry["outcome"], entry["level"]) for entry in ends if "outcome" in entry
    ]
    assert jobs == [
        ("one", "started", "info"),
        ("one", "done", "info"),
        ("two", "started", "info"),
        ("two", "failed", "warning"),
    ]


# Failed jobs


def entries(directory):
    found = []
    for path in sorted(directory.glob("*.json")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        found.append(failed.parse(path.read_bytes(), failed.id_of(path.name)))
    return found


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "failed"
    folder.mkdir()
    return folder


def test_failed_jobs_are_kept(
    new_server, new_worker, client, functions, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("GEARVISOR_RELEASE", "7")
    server, path = new_server(), tmp_path / "status.json"
    new_worker(
        [server], functions, f"--failed-dir={store}", "--job-timeout=0.3", f"--status-file={path}"
    )
    before = time.time()
    payload = bytes(range(256))
    cases = [
        ("throw", "exception", "DomainException: ", "DomainException: "),
        ("refuse", "failed", "Gearvisor\\JobFailed: ", "Gearvisor\\JobFailed: "),
        ("send_fail", "failed", "sent by the function", None),
        ("send_exception", "exception", "", None),
        (
            "long",
            "timeout",
            "Gearvisor\\JobTimeLimit: over the limit of 0.3 s",
            "Gearvisor\\JobTimeLimit: ",
        ),
    ]
    for number, (function, *_expected) in enumerate(cases):
        assert client(server, f"--unique=u{number}", function, "-", data=payload).returncode == 1
        # It was there before the failure was reported.
        assert len(entries(store)) == number + 1
    found = {entry["function"]: entry for entry in entries(store)}
    for number, (function, outcome, error, trace) in enumerate(cases):
        entry = found[function]
        assert (entry["outcome"], entry["unique"]) == (outcome, f"u{number}"), entry
        assert entry["error"].startswith(error), entry
        assert (entry["traceback"] or "").startswith(trace or ""), entry
        assert (entry["traceback"] is None) == (trace is None)
        assert failed.payload_of(entry) == payload
        assert (entry["payload_bytes"], entry["worker"], entry["release"]) == (256, "worker-1", "7")
        assert before - 0.01 <= entry["started"] <= entry["failed"] <= time.time() + 0.01
        assert entry["handle"].startswith("H:") and len(entry["attempts"]) == 1
    raw = json.loads(next(store.glob("*.json")).read_text())
    assert set(raw) == set(examples()[1])
    assert set(raw["attempts"][0]) == set(examples()[1]["attempts"][0])
    wait_until(
        lambda: (
            status_file.read(str(path))["failed_jobs"] == {"kept": 5, "dropped": 0, "unwritten": 0}
        )
    )
    assert list(store.glob(".*")) == []


def test_payloads_that_are_secret(new_server, new_worker, client, functions, store):
    server = new_server()
    new_worker([server], functions, f"--failed-dir={store}", "--failed-payload=no")
    client(server, "refuse", "secret")
    (entry,) = entries(store)
    assert (entry["payload"], entry["payload_bytes"]) == (None, 6)


def test_a_retry_is_one_more_attempt(new_server, new_worker, client, functions, store):
    server = new_server()
    new_worker([server], functions, f"--failed-dir={store}")
    client(server, "throw", "first")
    (entry,) = entries(store)
    for attempt in (2, 3):
        client(
            server, f"--unique={failed.retry_unique(entry['id'], attempt)}", "throw", f"{attempt}"
        )
    (again,) = entries(store)
    assert [each["error"] for each in again["attempts"]] == [
        f"DomainException: {text}" for text in ("first", "2", "3")
    ]
    assert (again["error"], failed.payload_of(again)) == ("DomainException: 3", b"first")
    # One of another host's entries.
    other = "0190f5fe-0000-7000-8000-000000000000"
    client(server, f"--unique={failed.retry_unique(other, 2)}", "throw", "elsewhere")
    assert [each["id"] for each in entries(store)] == [other, entry["id"]]


def test_a_failed_job_that_cannot_be_kept(
    new_server, new_worker, client, functions, store, tmp_path
):
    server, path = new_server(), tmp_path / "status.json"
    worker = new_worker(
        [server], functions, f"--failed-dir={store}", f"--status-file={path}", "--log-format=json"
    )
    store.rmdir()
    done = client(server, "throw", "no")
    assert (done.returncode, done.stderr) == (
        1, b"client.php: throw threw an exception: DomainException: no\n",
    )  # fmt: skip
    (problem,) = [entry for entry in worker.entries() if "could not be kept" in entry["message"]]
    assert problem["level"] == "error" and "No such file or directory" in problem["message"]
    wait_until(lambda: status_file.read(str(path))["failed_jobs"]["unwritten"] == 1)


@pytest.mark.parametrize("content", ["", "{", "link", "fifo"])
def test_an_entry_that_cannot_be_read_is_made_again(
    new_server, new_worker, client, functions, store, tmp_path, content
):
    name = "0190f5fe-0000-7000-8000-000000000000"
    path, victim = store / f"{name}.json", tmp_path / "victim"
    victim.write_text("not to be touched")
    if content == "link":
        path.symlink_to(victim)
    elif content == "fifo":
        os.mkfifo(path)
    else:
        path.write_text(content)
    server = new_server()
    new_worker([server], functions, f"--failed-dir={store}")
    client(server, f"--unique={failed.retry_unique(name, 2)}", "throw", "x")
    (entry,) = entries(store)
    assert (entry["id"], entry["error"]) == (name, "DomainException: x")
    assert victim.read_text() == "not to be touched"


def test_the_store_stays_within_its_bounds(store):
    (store / "notes.txt").write_text("mine")
    code = (
        f"require '{PHP_FOLDER}/autoload.php';"
        "$store = new Gearvisor\\FailedStore($argv[1], true, 50, 100_000);"
        "$attempt = ['unique' => 'u', 'error' => 'e'];"
        "for ($number = 0; $number < 200; $number++) { $store->add('f', str_repeat('x', 300), $attempt); }"
        "for ($number = 0; $number < 40; $number++) { $store->add('f', str_repeat('x', 9000), $attempt); }"
        "echo json_encode([$store->kept, $store->dropped, $store->unwritten]);"
    )
    done = run_php("-r", code, str(store))
    kept, dropped, unwritten = json.loads(done.stdout)
    files = list(store.glob("*.json"))
    assert (kept, unwritten, dropped) == (240, 0, 240 - len(files))
    assert len(files) <= 50 + 16
    assert sum(path.stat().st_size for path in files) <= 100_000 + 16 * 13_000
    assert (store / "notes.txt").read_text() == "mine"
    # The newest are left.
    assert (
        failed.parse(max(files).read_bytes(), failed.id_of(max(files).name))["payload_bytes"]
        == 9000
    )


@pytest.mark.parametrize(
    "option, words",
    [
        ("--failed-dir=/nowhere", ["--failed-dir", "/nowhere", "not a directory"]),
        ("--failed-payload=maybe", ["--failed-payload", "maybe", "yes, no"]),
    ],
)
def test_wrong_options(option, words):
    done = run_php(str(PHP_FOLDER / "worker.php"), option)
    assert done.returncode == 2
    assert all(word in done.stderr.decode() for word in words)


# Kills the worker at the Nth change of its store's files: a function of a class's own namespace comes before PHP's.
KILLS = """<?php
namespace Gearvisor;

function step(): void
{
    static $steps = 0;
    $ofStore = in_array(FailedStore::class, array_column(debug_backtrace(), 'class'), true);
    if ($ofStore && ++$steps === (int) getenv('KILL_AT')) {
        posix_kill(getmypid(), SIGKILL);
    }
}
"""
for name in ("unlink", "fopen", "chmod", "fwrite", "fsync", "rename"):
    KILLS += f"""
function {name}(mixed ...$arguments): mixed
{{
    step();
    return \\{name}(...$arguments);
}}
"""


@pytest.mark.parametrize("step", range(1, 9))
def test_a_worker_killed_at_any_step_of_keeping_a_job_loses_nothing(
    new_server, new_worker, functions, tmp_path, monkeypatch, step
):
    kills, store = tmp_path / "kills.php", tmp_path / "store"
    kills.write_text(KILLS)
    store.mkdir()
    server = new_server()
    options = (functions, f"--failed-dir={store}")
    monkeypatch.setenv("KILL_AT", str(step))
    first = new_worker([server], *options, before=["-d", f"auto_prepend_file={kills}"])
    with Client([server.address], timeout=60) as submits:
        submits.submit("throw", b"payload", background=True)
    if step < 8:
        assert first.process.wait(timeout=60) == -signal.SIGKILL
        assert server.status()["throw"][0] == 1, "not reported, so handed out again"
        monkeypatch.delenv("KILL_AT")
        new_worker([server], *options, client_id="second")
    wait_until(lambda: server.status()["throw"][0] == 0)
    kept = [failed.parse(path.read_bytes(), path.stem) for path in store.glob("*.json")]
    assert 1 <= len(kept) <= 2, "at most a duplicate"
    assert all(failed.payload_of(entry) == b"payload" for entry in kept)
    # The last step is behind all changes: the worker was not killed, so each one was tried.
    assert (first.process.poll() is None) == (step == 8)


# Paused functions

PAUSABLE = """<?php return [
    'a b' => fn (string $data): string => "a $data",
    'c' => function (string $data): string { usleep(1000 * (int) $data); return "c $data"; },
];
"""


def test_pause(new_server, client, tmp_path):
    folder, file, path = tmp_path / "paused", tmp_path / "functions.php", tmp_path / "status.json"
    file.write_text(PAUSABLE)
    server = new_server()
    folder.mkdir()
    (folder / "c").touch()
    worker = PhpWorker(
        tmp_path / "log",
        [server],
        f"--functions={file}",
        f"--paused-dir={folder}",
        f"--status-file={path}",
    )

    def sockets():
        """Of the worker: it must keep its connections."""
        folder = f"/proc/{worker.process.pid}/fd"
        links = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
        return {link for link in links if link.startswith("socket:")}

    try:
        # A function that is paused at the start is not served.
        wait_until(lambda: "connected to" in worker.log(), 8)
        assert client(server, "--timeout=60", "a b", "x").stdout == b"a x"
        assert client(server, "--timeout=1.5", "c", "1").returncode == 4
        assert status_file.read(str(path))["paused"] == ["c"]
        (folder / "c").unlink()
        wait_until(lambda: server.status()["c"] == [0, 0, 1], 8, "the job that waited")
        before = wait_until(sockets)
        # In a job: it is finished, once, then the function is paused.
        client(server, "--background", "c", "2500")
        wait_until(lambda: server.status()["c"][1] == 1)
        (folder / "c").touch()
        client(server, "--background", "c", "1")
        wait_until(lambda: "c is paused" in worker.log().split("served again")[-1], 8)
        wait_until(
            lambda: server.status()["c"] == [1, 0, 0],
            8,
            f"one job waits, no worker: {server.status()}",
        )
        # All functions: the connection stays, and so does the answer to a signal.
        (folder / "a%20b").touch()
        wait_until(lambda: server.status()["a b"] == [0, 0, 0], 8, "all paused")
        time.sleep(2)
        assert sockets() == before
        (folder / "a%20b").unlink()
        assert client(server, "--timeout=60", "a b", "y").stdout == b"a y"
        (folder / "c").unlink()
        wait_until(lambda: server.status()["c"] == [0, 0, 1], 8, "all served")
        assert sockets() == before
        assert "connection lost" not in worker.log()
        worker.process.terminate()
        assert worker.process.wait(timeout=60) == 0
    finally:
        worker.stop()
