# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `gearvisor` command: output, exit codes and error messages."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import time

import pytest
from gearvisor import __version__, unique_ids
from gearvisor.cli import main
from gearvisor.client import Client
from gearvisor.connection import Connection
from gearvisor.protocol import Packet, encode
from gearvisor.reference import FUNCTIONS


@pytest.fixture
def server(shared_server, serve):
    serve([shared_server.address], FUNCTIONS)
    return shared_server


@pytest.fixture
def run(capfdbinary):
    """run(*arguments): the exit code, standard output and standard error of the command."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        output, errors = capfdbinary.readouterr()
        assert b"Traceback" not in errors
        return code, output, errors.decode()

    return run


def test_submit_prints_the_bytes_of_the_result_alone(run, server):
    assert run("submit", "reverse", "abc", "--server", server.address) == (0, b"cba", "")


def test_submit_ends_its_output_with_a_line_feed_at_a_terminal(command, server):
    ours, theirs = os.openpty()
    process = command("submit", "reverse", "abc", "--server", server.address, stdout=theirs)
    assert process.wait(60) == 0
    assert os.read(ours, 100) == b"cba\r\n"
    for end in (ours, theirs):
        os.close(end)


def test_submit_makes_a_unique_id_with_the_time_in_front(run, server):
    document = json.loads(run("submit", "echo", "x", "--json", "--server", server.address)[1])
    assert unique_ids.made_at(document["unique"], time.time()) is not None


def test_status_shows_names_of_strangers_escaped_and_keeps_them_in_json(run, job_server):
    connection = Connection("127.0.0.1", job_server.port, 60)
    connection.send(encode(Packet.CAN_DO, b"\x1b[2Jodd\nname\xff") + encode(Packet.ECHO_REQ, b""))
    connection.receive(60)
    code, output, _ = run("status", "--server", job_server.address)
    assert code == 0 and len(output.splitlines()) == 2
    assert b"\\x1b[2Jodd\\nname\\xff" in output
    code, output, _ = run("status", "--json", "--server", job_server.address)
    assert list(json.loads(output)["servers"][0]["functions"]) == ["\x1b[2Jodd\nname\udcff"]
    assert run("drain", "--json", "--server", job_server.address)[0] == 0
    connection.close()


def test_errors_are_shown_escaped(run, server):
    code, _, errors = run("submit", "fail", "\x1b[2J\nforged", "--server", server.address)
    assert code == 1 and errors.endswith("RuntimeError: \\x1b[2J\\nforged\n")


def test_submit_reads_standard_input(command, server):
    payload = bytes(range(256))
    for arguments in (["reverse"], ["reverse", "-"]):
        process = command("submit", *arguments, "--server", server.address, stdin=-1)
        output, errors = process.communicate(payload, timeout=60)
        assert (process.returncode, output, errors) == (0, payload[::-1], b"")


@pytest.mark.parametrize(("payload", "text"), [(b"h\xc3\xa9", "h\u00e9"), (b"\xff\0", None)])
def test_submit_json(run, server, monkeypatch, payload, text):
    stdin = io.TextIOWrapper(io.BytesIO(payload))
    monkeypatch.setattr("sys.stdin", stdin)
    code, output, _ = run("submit", "echo", "--json", "--unique", "me", "--server", server.address)
    document = json.loads(output)
    assert code == 0
    assert document.pop("handle").startswith("H:")
    assert 0 < document.pop("seconds") < 10
    assert document == {
        "function": "echo",
        "server": server.address,
        "unique": "me",
        "result": text,
        "result_base64": base64.b64encode(payload).decode(),
    }


def test_submit_in_the_background_prints_the_handle(run, job_server):
    code, output, _ = run("submit", "f", "x", "--background", "--server", job_server.address)
    assert code == 0 and output.startswith(b"H:") and output.endswith(b"\n")
    assert job_server.status("f")[0] == 1


def test_servers_come_from_the_environment(run, server, closed_port, monkeypatch):
    monkeypatch.setenv("GEARVISOR_SERVERS", f"{closed_port}, {server.address}")
    assert run("submit", "reverse", "abc") == (0, b"cba", "")
    monkeypatch.setenv("GEARVISOR_SERVERS", "host:port")
    code, _, errors = run("submit", "reverse", "abc")
    assert code == 2 and "GEARVISOR_SERVERS: job server 'host:port'" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["submit", "fail", ""], 1, "function fail: job H:"),
        (["submit", "fail", "disk full"], 1, "function fail: RuntimeError: disk full"),
        (["submit", "sleep", "1", "--timeout", "0.1"], 4, "--timeout 0.1: no answer from"),
        (["submit", "", "x"], 2, "function name is empty"),
        (["submit", "f", "x", "--unique", "u" * 64], 2, "the limit is 63"),
        (["submit", "f", "x", "--timeout", "0"], 2, "--timeout: '0' is not a number of seconds"),
        (["submit", "f", "x", "--timeout", "soon"], 2, "--timeout: 'soon' is not"),
        (["submit", "f", "x", "--priority", "urgent"], 2, "--priority"),
        (["submit", "f", "x", "--server", "::1"], 2, "--server: job server '::1' is ambiguous"),
        (["worker", "no_such_module"], 2, "cannot import 'no_such_module'"),
        (["worker", ":f"], 2, ":f: cannot import ''"),
        (["worker", "json"], 2, "module 'json' has no FUNCTIONS map"),
        (["worker", "json:nothing"], 2, "module 'json' has no callable nothing"),
        (["worker", "f=gearvisor.reference"], 2, "no callable FUNCTIONS['f']"),
        (["worker", "json:dumps", "json:dumps"], 2, "'dumps' is registered already"),
        (["worker", "json:dumps", "--client-id", "a b"], 2, "--client-id: client id 'a b' holds"),
        (["worker", "json:dumps", "--concurrency", "2"], 2, "function 'dumps' is not async"),
        (["worker", "json:dumps", "a=asyncio:sleep"], 2, "function 'a' is async and 'dumps' is"),
        (
            ["worker", "asyncio:sleep", "--prefetch", "2"],
            2,
            "is async, which asks for jobs at once",
        ),
        (["worker", "json:dumps", "--prefetch", "2"], 2, "Give --job-timeout to limit that"),
        (["worker", "json:dumps", "--failed-dir", "/missing"], 2, "/missing: not a directory"),
        (["worker", "json:dumps", "--max-jobs", "1.5"], 2, "--max-jobs: '1.5' is not a whole"),
        (["worker", "json:dumps", "--splay", "2"], 2, "--splay: '2' is not a number from 0 to 1"),
        (["worker"], 2, "[NAME=]MODULE[:CALLABLE]"),
        ([], 2, "COMMAND"),
    ],
)
def test_exit_codes_and_messages(run, server, monkeypatch, arguments, code, says):
    monkeypatch.setenv("GEARVISOR_SERVERS", server.address)
    actual, output, errors = run(*arguments)
    assert (actual, output) == (code, b"")
    assert says in errors


@pytest.mark.parametrize("subcommand", [["submit", "f", "x"], ["status"], ["drain"]])
def test_no_job_server(run, closed_port, subcommand):
    code, output, errors = run(*subcommand, "--server", closed_port)
    assert (code, output) == (3, b"")
    assert f"no job server answers: {closed_port}: Connection refused" in errors
    assert "--server" in errors


def test_a_refused_job_is_a_failure(run, job_server):
    from gearvisor.admin import Admin

    with Admin(job_server.address) as admin:
        admin.create("full")
        admin.max_queue("full", 1)
    arguments = ["submit", "full", "x", "--background", "--server", job_server.address]
    assert run(*arguments)[0] == 0
    code, _, errors = run(*arguments)
    assert code == 1 and "function full: QUEUE_ERROR" in errors


def test_status_table(run, job_server):
    with Client([job_server.address]) as client:
        client.submit("resize", background=True)
        client.submit("a", background=True)
    code, output, _ = run("status", "--server", job_server.address)
    width = len(job_server.address)
    assert code == 0
    assert output.decode().splitlines() == [
        f"{'SERVER':{width}}  FUNCTION  QUEUED  RUNNING  WORKERS",
        f"{job_server.address}  a              1        0        0",
        f"{job_server.address}  resize         1        0        0",
    ]


def test_status_json_of_the_servers_that_answer(run, job_server, closed_port):
    with Client([job_server.address]) as client:
        client.submit("f", background=True)
    code, output, errors = run(
        "status", "--json", "--server", closed_port, "--server", job_server.address
    )
    (document,) = json.loads(output)["servers"]
    assert code == 3 and closed_port in errors
    assert document["server"] == job_server.address
    assert document["version"]
    assert document["functions"] == {"f": {"queued": 1, "running": 0, "workers": 0}}
    assert {worker["client_id"] for worker in document["workers"]} == {"-"}


def test_status_watch_prints_until_interrupted(command, job_server):
    process = command("status", "--json", "--watch", "0.05", "--server", job_server.address)
    for _ in range(3):
        assert json.loads(process.stdout.readline())["servers"]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == b""


def test_drain_waits_for_the_last_job(run, job_server, serve):
    with Client([job_server.address]) as client:
        for _ in range(3):
            client.submit("sleep", b"0.2", background=True)
        client.submit("other", background=True)
    serve([job_server.address], FUNCTIONS)
    started = time.monotonic()
    assert run("drain", "sleep", "--server", job_server.address) == (0, b"", "")
    assert time.monotonic() - started > 0.5
    job_server.settles("sleep", 0, 0)


def test_drain_gives_up_and_shows_what_is_left(run, job_server):
    with Client([job_server.address]) as client:
        client.submit("stuck", background=True)
    assert run("drain", "never-heard-of", "--server", job_server.address)[0] == 0
    code, _, errors = run("drain", "--timeout", "0.2", "--server", job_server.address)
    assert code == 4
    assert f"--timeout 0.2: stuck on {job_server.address} has 1 waiting and 0 running" in errors


def test_drain_json_shows_what_is_left(run, job_server):
    assert json.loads(run("drain", "--json", "--server", job_server.address)[1]) == {"left": []}
    with Client([job_server.address]) as client:
        client.submit("stuck", background=True)
    code, output, _ = run("drain", "--json", "--timeout", "0.2", "--server", job_server.address)
    left = {"server": job_server.address, "function": "stuck", "queued": 1, "running": 0,
            "workers": 0}  # fmt: skip
    assert (code, json.loads(output)) == (4, {"left": [left]})


@pytest.mark.parametrize(
    ("spec", "served"),
    [
        ("mine", {"alpha", "beta"}),
        ("beta=mine", {"beta"}),
        ("mine:double", {"double"}),
        ("twice=mine:double", {"twice"}),
        ("mine:Group.method", {"method"}),
    ],
)
def test_worker_serves_what_its_argument_names(command, job_server, tmp_path, spec, served):
    (tmp_path / "mine.py").write_text(
        "def double(job):\n    return job.data * 2\n"
        "class Group:\n    method = double\n"
        "FUNCTIONS = {'alpha': double, 'beta': double}\n"
    )
    command("worker", "--server", job_server.address, "--client-id", "w", spec)
    with Client([job_server.address], timeout=60) as client:
        for name in served:
            assert client.submit(name, b"ab").data == b"abab"
    assert job_server.worker_ids(min(served)) == ["w"]
    known = {name for name in ("alpha", "beta", "double", "twice", "method")
             if job_server.status(name)[2]}  # fmt: skip
    assert known == served


def test_worker_limits_end_it_with_success(command, server, job_server):
    options = ["--server", job_server.address, "--splay", "0"]
    process = command("worker", *options, "--max-jobs", "1", "gearvisor.reference")
    with Client([job_server.address], timeout=60) as client:
        assert client.submit("echo", b"x").data == b"x"
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0 and b"leaving: the most jobs" in log
    process = command("worker", *options, "--max-seconds", "0.2", "gearvisor.reference")
    assert process.wait(60) == 0


def test_worker_waits_for_a_job_server_that_is_not_there_yet(wait_until, command, job_server):
    job_server.stop()
    command("worker", "--server", job_server.address, "--client-id", "early", "gearvisor.reference")
    time.sleep(0.5)
    job_server.start()
    wait_until(lambda: job_server.worker_ids("echo") == ["early"], "registration", 7)


def test_help_documents_the_exit_codes(run):
    for arguments in (["--help"], ["submit", "--help"]):
        code, output, _ = run(*arguments)
        assert code == 0 and b"exit codes:" in output and b"GEARVISOR_SERVERS" in output


def test_version(run):
    assert run("--version") == (0, f"gearvisor {__version__}\n".encode(), "")
