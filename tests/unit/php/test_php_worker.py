# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""php/worker.php and php/client.php, run by the real php against a real gearmand."""

from __future__ import annotations

import json
import re
import signal
import threading
import time

import pytest
from php_harness import (
    CLIENT,
    LEFT_JOB,
    PHP_FOLDER,
    WORK_COMPLETE,
    WORK_FAIL,
    WORKER,
    run_php,
    wait_until,
)

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000 (DEBUG|INFO|WARNING|ERROR) .+")
JSON_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ALL_BYTES = bytes(range(256))

FUNCTIONS = """<?php
return [
    'refuse' => fn (string $data) => throw new Gearvisor\\JobFailed("will not take $data"),
    'number' => fn (string $data) => 42,
    'nothing' => function (string $data): void {},
    'warn' => function (string $data): string {
        trigger_error("forged\\n$data", E_USER_WARNING);
        return 'warned';
    },
    'progress' => function (string $data, GearmanJob $job): string {
        foreach ([1, 2, 3, 4, 5, 6] as $step) { usleep(200000); $job->sendStatus($step, 6); }
        return 'late';
    },
    'handle' => fn (string $data, GearmanJob $job): string => $job->handle(),
    'sum' => Gearvisor\\json(fn (array $values): array => ['sum' => array_sum($values)]),
    'fork' => function (string $data): string {
        if (pcntl_fork() === 0) {
            return 'from the child';
        }
        pcntl_wait($status);
        return "child left with $status";
    },
];
"""

# What takes long: $data is a file that the first to take the job makes, so that the second answers.
LONG = """<?php
$first = fn (string $file): bool => @fopen($file, 'x') !== false;
$pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
return [
    'loop' => function (string $file): string { while (true); },
    'sleep' => function (string $file): string { while (true) { sleep(60); } },
    'select' => function (string $file) use ($pair): string {
        [$read, $write, $except] = [[$pair[0]], null, null];
        stream_select($read, $write, $except, 60);
        return 'selected';
    },
    'stubborn' => function (string $file) use ($first): string {
        $end = hrtime(true) + ($first($file) ? 60e9 : 0);
        while (hrtime(true) < $end) {
            try { usleep(1000000); } catch (Throwable) {}
        }
        return 'second';
    },
    'read' => function (string $file) use ($first, $pair): string {
        if ($first($file)) {
            usleep(500000);
            fread($pair[0], 1);
        }
        return 'second';
    },
];
"""


# The command lines


@pytest.mark.parametrize(
    "program, arguments, words",
    [
        (WORKER, ["--bogus"], ["--bogus", "--help"]),
        (WORKER, ["extra"], ["extra", "--help"]),
        (WORKER, ["--server"], ["--server", "missing"]),
        (WORKER, ["--server", "::1"], ["--server", "::1", "[IPV6]:PORT"]),
        (WORKER, ["--server", "a:0"], ["port 0", "1 to 65535"]),
        (WORKER, ["--server", "a:99999"], ["port 99999", "1 to 65535"]),
        (WORKER, ["--max-jobs", "-1"], ["--max-jobs", "'-1'", "whole number"]),
        (WORKER, ["--max-rss", "64M"], ["--max-rss", "'64M'", "whole number"]),
        (WORKER, ["--splay", "1.5"], ["--splay", "'1.5'", "0 to 1"]),
        (WORKER, ["--job-timeout", "1m"], ["--job-timeout", "'1m'", "number"]),
        (WORKER, ["--stop-timeout", "-1"], ["--stop-timeout", "'-1'", "number"]),
        (WORKER, ["--status-file", "/nowhere/s"], ["--status-file", "/nowhere/s", "directory"]),
        (WORKER, ["--log-format", "xml"], ["--log-format", "xml", "text, json"]),
        (WORKER, ["--log-level", "loud"], ["--log-level", "loud", "warning"]),
        (WORKER, ["--client-id", "a b"], ["--client-id", "a b", "without blanks"]),
        (WORKER, ["--functions", "/nowhere.php"], ["--functions", "/nowhere.php", "path"]),
        (WORKER, ["--functions", f"{PHP_FOLDER}/reference.php"] * 2, ["'reverse'", "already"]),
        (CLIENT, [], ["FUNCTION", "--help"]),
        (CLIENT, ["f", "a", "b"], ["FUNCTION", "--help"]),
        (CLIENT, ["f"], ["empty", "null"]),
        (CLIENT, ["f", "x", "--help=yes"], ["--help", "no value"]),
        (CLIENT, ["f", "x", "--priority", "top"], ["--priority", "top", "high, normal, low"]),
        (CLIENT, ["f", "x", "--timeout", "soon"], ["--timeout", "soon"]),
        (CLIENT, ["f", "x", "--unique", "u" * 64], ["--unique", "1 to 63"]),
    ],
)
def test_wrong_usage(program, arguments, words):
    done = run_php(program, *arguments)
    message = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert all(word in message for word in words), message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "code, words",
    [
        ("return [", ["cannot be loaded", "Unclosed '['"]),
        ("throw new Exception('no database');", ["cannot be loaded", "no database", ":1"]),
        ("echo '';", ["returns no array", "return ["]),
        ("return [];", ["returns no array", "return ["]),
        ("return ['strrev'];", ["entry '0'", "'name' => function"]),
        ("return ['a' => 'no_such_function'];", ["entry 'a'", "'name' => function"]),
    ],
)
def test_wrong_functions_file(tmp_path, code, words):
    file = tmp_path / "functions.php"
    file.write_text(f"<?php {code}")
    done = run_php(WORKER, "--functions", str(file))
    message = done.stderr.decode()
    assert done.returncode == 2
    assert all(word in message for word in ["--functions", str(file), *words]), message


@pytest.mark.parametrize("program", [WORKER, CLIENT])
def test_help(program):
    done = run_php(program, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Exit codes: 0" in done.stdout


# Jobs


@pytest.mark.parametrize("function", ["reverse", "reverse_php", "echo"])
@pytest.mark.parametrize(
    "data", [ALL_BYTES, b"\0", b"text\n", ALL_BYTES * 4096], ids=["all", "nul", "text", "1MiB"]
)
def test_round_trip(shared, client, function, data):
    done = client(shared[0], function, "-", data=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (data if function == "echo" else data[::-1])


def test_round_trip_of_nothing(shared):
    assert shared[0].submit("reverse", b"") == (WORK_COMPLETE, b"")


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_priority_and_unique(shared, client, priority):
    done = client(shared[0], "--priority", priority, "--unique", "one", "reverse", "abc")
    assert (done.returncode, done.stdout) == (0, b"cba")


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
def test_background(shared, client, priority):
    done = client(shared[0], "--background", "--priority", priority, "reverse", "abc")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"H:")


def test_fail(shared):
    assert shared[0].submit("fail")[0] == WORK_FAIL
    shared[1].wait_for_log("failed: asked to fail")


def test_exception(shared, client):
    done = client(shared[0], "fail", "the \u00e4ther is out")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (
        "client.php: fail threw an exception: RuntimeException: the \u00e4ther is out\n"
    )
    assert client(shared[0], "reverse", "abc").stdout == b"cba"
    assert re.search("ERROR job H:.+ of fail raised RuntimeException: the", shared[1].log())
    assert shared[1].process.poll() is None


def test_many_failures_do_not_cost_the_connection(shared):
    for _number in range(50):
        assert shared[0].submit("fail")[0] == WORK_FAIL
        assert shared[0].submit("fail", b"x")[0] == WORK_FAIL
    assert "connection lost" not in shared[1].log()


def test_own_functions(new_server, new_worker, client, tmp_path):
    file = tmp_path / "functions.php"
    file.write_text(FUNCTIONS)
    server = new_server()
    worker = new_worker(
        [server], "--functions", str(file), "--functions", f"{PHP_FOLDER}/reference.php"
    )
    for function, data, code, stdout, stderr in [
        ("refuse", "this", 1, "", "refuse failed"),
        ("number", "x", 1, "", "number returned int, not a string: use json_encode()"),
        ("nothing", "x", 0, "", ""),
        ("warn", "line", 0, "warned", ""),
        ("handle", "x", 0, "H:", ""),
        ("sum", "[1, 2.5]", 0, '{"sum":3.5}', ""),
        ("sum", "a:0:{}", 1, "", "the payload is not JSON: Syntax error"),
        ("fork", "x", 0, "child left with 0", ""),
        ("reverse", "abc", 0, "cba", ""),
    ]:
        done = client(server, "--timeout", "5", function, data)
        assert done.returncode == code, (function, done)
        assert done.stdout.decode().startswith(stdout)
        assert stderr in done.stderr.decode()
    # Progress does not extend the time the caller gave.
    assert client(server, "--timeout", "0.5", "progress", "x").returncode == 4
    assert "will not take this" in worker.log()
    assert r"WARNING forged\nline in" in worker.log()
    assert all(LOG_LINE.fullmatch(line) for line in worker.log().splitlines())


# The client without a worker or a server


def test_client_timeout(shared, client):
    start = time.monotonic()
    done = client(shared[0], "--timeout", "0.5", "nobody_serves_this", "x")
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"--timeout" in done.stderr and b"nobody_serves_this" in done.stderr
    assert time.monotonic() - start < 10


def test_client_without_a_server(new_server, client):
    server = new_server(start=False)
    done = client(server, "reverse", "abc")
    assert (done.returncode, done.stdout) == (3, b"")
    assert server.address.encode() in done.stderr and b"--server" in done.stderr


def test_client_takes_the_server_that_answers(shared, new_server, client):
    done = client(new_server(start=False), "--server", shared[0].address, "reverse", "abc")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"cba", b"")


def test_client_loses_its_server(new_server, new_worker, client):
    server = new_server()
    new_worker([server])
    wait_until(lambda: server.submit("echo", b"x") == (WORK_COMPLETE, b"x"))
    timer = threading.Timer(0.5, server.stop)
    timer.start()
    done = client(server, "sleep", "2")
    timer.join()
    assert done.returncode == 3
    assert b"connection lost" in done.stderr


def test_servers_from_the_environment(new_server, new_worker, client, monkeypatch):
    down, up, named = new_server(start=False), new_server(), new_server()
    monkeypatch.setenv("GEARVISOR_SERVERS", f"{down.address}, {up.address}")
    # libgearman's own variable, which must add nothing.
    monkeypatch.setenv("GEARMAN_SERVERS", f"{down.address}, {up.address}")
    worker = new_worker([], client_id="by-environment")
    up.wait_for_worker("by-environment")
    assert client(None, "reverse", "abc").stdout == b"cba"
    assert "connection lost" not in worker.log()
    # Those named are all.
    new_worker([named], client_id="by-option")
    assert "by-option" not in up.workers()
    assert client(named, "reverse", "abc").stdout == b"cba"


# Leaving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_when_idle(new_server, new_worker, number):
    worker = new_worker([new_server()])
    start = time.monotonic()
    worker.process.send_signal(number)
    assert worker.process.wait(timeout=60) == 0
    assert time.monotonic() - start < 10
    assert f"leaves: {number.name}, jobs 0" in worker.log()


def test_signal_in_a_job(new_server, new_worker, client):
    server = new_server()
    worker = new_worker([server])
    timer = threading.Timer(0.4, worker.process.terminate)
    timer.start()
    start = time.monotonic()
    done = client(server, "sleep", "1.2")
    assert (done.returncode, done.stdout) == (0, b"1.2")
    assert time.monotonic() - start >= 1.2
    assert worker.process.wait(timeout=60) == 0
    timer.join()


def test_second_signal_leaves_at_once(new_server, new_worker, client):
    server = new_server()
    worker = new_worker([server])
    client(server, "--background", "sleep", "20")
    time.sleep(0.3)
    worker.process.terminate()
    time.sleep(0.3)
    assert worker.process.poll() is None
    worker.process.terminate()
    assert worker.process.wait(timeout=60) == LEFT_JOB
    assert re.search("leaves at once: SIGTERM, then SIGTERM.+ of sleep is left", worker.log())
    # It was not answered.
    server.settles("sleep", [1, 0, 0])


def test_second_signal_when_idle(new_server, new_worker):
    worker = new_worker([new_server()])
    worker.process.terminate()
    worker.process.terminate()
    assert worker.process.wait(timeout=60) == 0


# Deadlines


@pytest.fixture
def long_functions(tmp_path):
    file = tmp_path / "long.php"
    file.write_text(LONG)
    return f"--functions={file}"


def test_job_timeout(new_server, new_worker, client, long_functions):
    server = new_server()
    worker = new_worker([server], long_functions, "--job-timeout=0.3", "--log-format=json")
    for function in ("loop", "sleep", "select"):
        start = time.monotonic()
        done = client(server, function, "x")
        assert 0.3 <= time.monotonic() - start < 60, function
        assert (done.returncode, done.stdout) == (1, b"")
        assert (
            b"threw an exception: Gearvisor\\JobTimeLimit: over the limit of 0.3 s\n" in done.stderr
        )
    entries = [entry for entry in worker.entries() if entry["level"] == "error"]
    assert [entry["outcome"] for entry in entries] == ["timeout"] * 3
    # Where it was, not where the time was found to be over.
    assert all(re.search(r"/long\.php:\d+$", entry["where"]) for entry in entries)
    # It stays, and the next job has its whole time.
    assert worker.process.poll() is None


def test_time_limits_of_functions_that_end_in_time(new_server, new_worker, client):
    server = new_server()
    worker = new_worker([server], "--job-timeout=1", "--stop-timeout=2")
    for _number in range(2):
        assert client(server, "sleep", "0.7").stdout == b"0.7"
    timer = threading.Timer(0.3, worker.process.terminate)
    timer.start()
    assert client(server, "sleep", "0.7").stdout == b"0.7"
    assert worker.process.wait(timeout=60) == 0
    timer.join()


def test_job_timeout_of_what_cannot_be_interrupted(
    new_server, new_worker, client, long_functions, tmp_path
):
    """A function that catches everything, and one that sits in a C call."""
    server = new_server()
    functions = ("stubborn", "read")
    workers = [
        new_worker([server], long_functions, "--job-timeout=0.6", client_id=f"worker-{number}")
        for number in range(len(functions))
    ]
    for function in functions:
        client(server, "--background", function, str(tmp_path / function))
    start = time.monotonic()
    for worker in workers:
        assert worker.process.wait(timeout=60) == LEFT_JOB
        assert time.monotonic() - start > 5
    log = "".join(worker.log() for worker in workers)
    for function in functions:
        words = "leaves at once: a job is 5 s past its limit of 0.6 s"
        assert re.search(f"ERROR .+{words}.+ of {function} is left to another worker", log)
        server.settles(function, [1, 0, 0])
    assert all(LOG_LINE.fullmatch(line) for line in log.splitlines())
    # Another worker finishes them.
    new_worker([server], long_functions)
    wait_until(lambda: all(server.status()[name] == [0, 0, 1] for name in functions))


@pytest.mark.parametrize("function", ["loop", "read"])
def test_stop_timeout(new_server, new_worker, client, long_functions, tmp_path, function):
    server = new_server()
    status = tmp_path / "status"
    worker = new_worker([server], long_functions, "--stop-timeout=0.5", f"--status-file={status}")
    client(server, "--background", function, str(tmp_path / "first"))
    wait_until(lambda: server.status()[function][1] == 1)
    start = time.monotonic()
    worker.process.terminate()
    assert worker.process.wait(timeout=60) == LEFT_JOB
    assert 0.5 <= time.monotonic() - start < 15
    assert "leaves at once: its stop timeout of 0.5 s is over" in worker.log()
    server.settles(function, [1, 0, 0])
    assert status.exists()  # only a clean exit removes it


# What a monitor reads


def test_status_file(new_server, new_worker, client, tmp_path):
    up, down = new_server(), new_server(start=False)
    path = tmp_path / "status.json"
    before = time.time()
    worker = new_worker([up, down], f"--status-file={path}")
    wait_until(path.exists)
    first = json.loads(path.read_text())
    assert first["servers"] == {up.address: True, down.address: False}
    client(up, "reverse", "abc")
    client(up, "fail", "x")
    up.submit("fail")
    client(up, "sleep", "0.25")

    def counted():
        status = json.loads(path.read_text())
        return status if status["done"] + status["failed"] == 4 else None

    status = wait_until(counted)
    assert (status["client_id"], status["pid"]) == ("worker-1", worker.process.pid)
    assert before - 0.001 <= status["started"] < status["updated"] <= time.time()
    assert (status["done"], status["failed"]) == (2, 2)
    assert 0.25 <= status["seconds"] < time.time() - before
    assert status["functions"]["fail"].items() >= {"done": 0, "failed": 2}.items()
    assert status["functions"]["sleep"]["seconds"] >= 0.25
    # Idle, it is renewed each second.
    wait_until(lambda: json.loads(path.read_text())["updated"] > status["updated"], 2.5)
    worker.process.terminate()
    assert worker.process.wait(timeout=60) == 0
    assert list(tmp_path.glob("status*")) == []


def test_status_file_that_cannot_be_written_any_more(new_server, new_worker, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    worker = new_worker([new_server()], f"--status-file={folder}/status")
    wait_until((folder / "status").exists)
    (folder / "status").unlink()
    folder.rmdir()
    worker.wait_for_log("WARNING the status file cannot be written")
    time.sleep(1.2)
    folder.mkdir()
    wait_until((folder / "status").exists, 2.5)
    assert worker.log().count("status file") == 1


def test_json_log(new_server, new_worker, client):
    server = new_server()
    worker = new_worker([server], "--log-format=json", "--log-level=debug")
    client(server, "reverse", "abc")
    server.submit("fail")
    client(server, "fail", "two\nlines \u00e4")
    entries = worker.entries()
    assert all(JSON_TIME.fullmatch(entry["time"]) for entry in entries)
    assert {entry["worker"] for entry in entries} == {"worker-1"}
    jobs = [entry for entry in entries if "outcome" in entry]
    assert [(job["level"], job["function"], job["outcome"]) for job in jobs] == [
        ("debug", "reverse", "done"),
        ("warning", "fail", "failed"),
        ("error", "fail", "exception"),
    ]
    assert all(job["handle"].startswith("H:") and 0 < job["seconds"] < 30 for job in jobs)
    assert "two\nlines \u00e4" in jobs[2]["message"]
    assert re.search(r"/reference\.php:\d+$", jobs[2]["where"])


def test_functions_of_a_directory(new_server, new_worker, client, tmp_path):
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "reverse.php").write_text("<?php return fn (string $data) => strrev($data);")
    (folder / "more.php").write_text(
        "<?php return ['upper' => fn (string $data) => strtoupper($data)];"
    )
    server = new_server()
    new_worker([server], f"--functions={folder}")
    assert set(server.workers()["worker-1"]) == {"reverse", "upper"}
    assert client(server, "reverse", "abc").stdout == b"cba"
    assert client(server, "upper", "abc").stdout == b"ABC"


def test_signal_without_a_server(new_server, new_worker):
    worker = new_worker([new_server(start=False)], wait=False)
    worker.wait_for_log("no answer")
    time.sleep(4)  # in a longer back-off
    start = time.monotonic()
    worker.process.terminate()
    assert worker.process.wait(timeout=60) == 0
    assert time.monotonic() - start < 4


@pytest.mark.parametrize(
    "option, jobs, reason",
    [
        ("--max-jobs=3", 3, "max-jobs 3"),
        ("--max-rss=1", 1, "max-rss 1 MiB"),
        ("--max-seconds=1", 0, "max-seconds 1"),
    ],
)
def test_limits(new_server, new_worker, client, option, jobs, reason):
    server = new_server()
    worker = new_worker([server], option, "--splay=0")
    for _number in range(jobs):
        assert client(server, "--timeout", "5", "reverse", "ab").stdout == b"ba"
    assert worker.process.wait(timeout=60) == 0
    assert f"leaves: {reason}, jobs {jobs}" in worker.log()


# Servers that come and go


def test_server_restart_keeps_the_id(new_server, new_worker, client):
    server = new_server()
    worker = new_worker([server])
    server.stop()
    worker.wait_for_log("no answer")
    server.start()
    server.wait_for_worker("worker-1")
    assert client(server, "reverse", "abc").stdout == b"cba"
    assert len(worker.log().splitlines()) == 5, worker.log()


def test_server_down_at_start(new_server, new_worker, client):
    server = new_server(start=False)
    worker = new_worker([server])
    time.sleep(5)
    assert len(worker.log().splitlines()) == 2, worker.log()
    server.start()
    server.wait_for_worker("worker-1")
    assert client(server, "reverse", "abc").stdout == b"cba"


def test_one_of_two_servers_down(new_server, new_worker, client):
    down, up = new_server(start=False), new_server()
    worker = new_worker([down, up])
    start = time.monotonic()
    for _number in range(20):
        assert up.submit("reverse", b"abc") == (WORK_COMPLETE, b"cba")
    assert time.monotonic() - start < 10
    time.sleep(1)
    assert len(worker.log().splitlines()) == 3, worker.log()
    down.start()
    down.wait_for_worker("worker-1")
    up.wait_for_worker("worker-1")
    for server in (down, up):
        assert client(server, "reverse", "abc").stdout == b"cba"


def test_one_of_two_servers_restarts(new_server, new_worker):
    one, two = new_server(), new_server()
    new_worker([one, two])
    one.stop()
    start = time.monotonic()
    assert two.submit("reverse", b"abc") == (WORK_COMPLETE, b"cba")
    assert time.monotonic() - start < 10
    # libgearman alone reconnects here in silence, and the id is gone.
    one.start()
    one.wait_for_worker("worker-1")
    two.wait_for_worker("worker-1")
    assert one.submit("reverse", b"abc") == (WORK_COMPLETE, b"cba")


def test_a_server_that_hangs_does_not_hold_up_the_other(new_server, new_worker):
    hung, other = new_server(), new_server()
    worker = new_worker([hung, other])
    hung.process.send_signal(signal.SIGSTOP)
    worker.wait_for_log(f"no answer from {hung.address}", seconds=60)
    start = time.monotonic()
    for _number in range(5):
        assert other.submit("reverse", b"abc") == (WORK_COMPLETE, b"cba")
    assert time.monotonic() - start < 10
    hung.process.send_signal(signal.SIGCONT)
    hung.wait_for_worker("worker-1")
