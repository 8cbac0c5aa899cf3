# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a function returns, sends or throws: what the client gets, and how the worker counts it."""

from __future__ import annotations

import json

import pytest
from php_harness import JobServer, PhpWorker, wait_until

# name: (code of the function's body, $data is the payload), outcome, client's exit code, its output
CASES = {
    "string": ("return strrev($data);", "done", 0, "cba"),
    "empty_string": ("return '';", "done", 0, ""),
    "null": ("return null;", "done", 0, ""),
    "nothing": ("$job->sendStatus(1, 1);", "done", 0, ""),
    # The PHP manual's: the function sends its answer itself and returns a return code, or nothing.
    "complete_and_success": ("$job->sendComplete('x'); return GEARMAN_SUCCESS;", "done", 0, "x"),
    "complete_and_nothing": ("$job->sendComplete('x');", "done", 0, "x"),
    "complete_and_true": ("$job->sendComplete('x'); return true;", "done", 0, "x"),
    "complete_and_string": ("$job->sendComplete('x'); return 'y';", "done", 0, "x"),
    "complete_and_array": ("$job->sendComplete('x'); return ['y'];", "done", 0, "x"),
    "complete_twice": ("$job->sendComplete('x'); $job->sendComplete('y');", "done", 0, "x"),
    "complete_then_fail": ("$job->sendComplete('x'); $job->sendFail();", "done", 0, "x"),
    "complete_then_throw": ("$job->sendComplete('x'); throw new Exception('y');", "done", 0, "x"),
    "data_and_success": ("$job->sendData('a'); return GEARMAN_SUCCESS;", "done", 0, "a"),
    "data_and_true": ("$job->sendData('a'); return true;", "done", 0, "a"),
    "data_and_nothing": ("$job->sendData('a'); $job->sendData('b');", "done", 0, "ab"),
    "data_and_string": ("$job->sendData('a'); return 'b';", "done", 0, "ab"),
    "data_and_work_fail": ("$job->sendData('a'); return GEARMAN_WORK_FAIL;", "failed", 1, "a"),
    "data_and_false": ("$job->sendData('a'); return false;", "failed", 1, "a"),
    "fail": ("$job->sendFail();", "failed", 1, ""),
    "fail_and_success": ("$job->sendFail(); return GEARMAN_SUCCESS;", "failed", 1, ""),
    "fail_and_work_fail": ("$job->sendFail(); return GEARMAN_WORK_FAIL;", "failed", 1, ""),
    "fail_and_string": ("$job->sendFail(); return 'x';", "failed", 1, ""),
    "set_return": ("$job->setReturn(GEARMAN_WORK_FAIL);", "failed", 1, ""),
    "set_return_and_null": ("$job->setReturn(GEARMAN_WORK_FAIL); return null;", "failed", 1, ""),
    "set_return_success": ("$job->setReturn(GEARMAN_SUCCESS); return 'x';", "done", 0, "x"),
    "exception_sent": ("$job->sendException('no'); return GEARMAN_SUCCESS;", "exception", 1, "no"),
    "exception_sent_only": ("$job->sendException('no');", "exception", 1, "no"),
    "job_failed": ("throw new Gearvisor\\JobFailed('no');", "failed", 1, ""),
    "thrown": ("throw new RuntimeException('no');", "exception", 1, "RuntimeException: no"),
    "thrown_class": ("throw new JsonException();", "exception", 1, "an exception: JsonException\n"),
    "error": ("intdiv(1, 0);", "exception", 1, "DivisionByZeroError: Division by zero"),
    "type_error": ("strlen([]);", "exception", 1, "TypeError: strlen()"),
    "escape": ('throw new LogicException("\\e[2J\\n");', "exception", 1, r"\x1b[2J\n"),
    "int": ("return 42;", "exception", 1, "returned int, not a string"),
    "int_zero": ("return GEARMAN_SUCCESS;", "exception", 1, "returned int, not a string"),
    "bool": ("return true;", "exception", 1, "returned bool, not a string"),
    "array": ("return [];", "exception", 1, "returned array, not a string"),
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """Serves each case in the three forms of a function."""
    folder = tmp_path_factory.mktemp("answers")
    functions = ["<?php return ["]
    for name, (code, *_expected) in CASES.items():
        manual = code.replace("$data", "$job->workload()")
        functions += [
            f"'{name}' => function (string $data, GearmanJob $job) {{ {code} }},",
            f"'{name}_typed' => function (GearmanJob $job) {{ {manual} }},",
            f"'{name}_manual' => function ($job, &$context) {{ {manual} }},",
        ]
    (folder / "functions.php").write_text("\n".join([*functions, "];"]))
    server = JobServer().start()
    worker = PhpWorker(
        folder / "log",
        [server],
        f"--functions={folder}/functions.php",
        "--log-level=debug",
        "--log-format=json",
    )
    try:
        server.wait_for_worker("worker-1")
        yield server, worker
    finally:
        worker.stop()
        server.stop()


@pytest.mark.parametrize("form", ["", "_typed", "_manual"])
@pytest.mark.parametrize("name", CASES)
def test_answer(worker, client, name, form):
    server, process = worker
    _code, outcome, exit_code, output = CASES[name]
    done = client(server, "--timeout=60", name + form, "abc")
    assert done.returncode == exit_code, done
    said = (
        done.stdout if outcome == "done" or not done.stderr else done.stdout + done.stderr
    ).decode()
    assert said == output if outcome == "done" else output in said
    ends = wait_until(
        lambda: [
            entry
            for entry in map(json.loads, process.log().splitlines())
            if entry.get("function") == name + form and "outcome" in entry
        ]
    )
    assert [entry["outcome"] for entry in ends] == [outcome]


@pytest.mark.parametrize("function", ["strrev", "strtoupper", "md5", "json_encode"])
def test_functions_of_php_itself(new_server, new_worker, client, tmp_path, function):
    file = tmp_path / "functions.php"
    file.write_text(f"<?php return ['native' => '{function}'];")
    server = new_server()
    new_worker([server], f"--functions={file}")
    expected = {"strrev": "cba", "strtoupper": "ABC", "json_encode": '"abc"'}
    done = client(server, "native", "abc")
    assert done.stdout.decode() == expected.get(function, "900150983cd24fb0d6963f7d28e17f72")


def test_nothing_is_sent_after_the_end(new_server, new_worker, client, tmp_path):
    file = tmp_path / "functions.php"
    file.write_text("""<?php
        $earlier = null;
        return ['keep' => function (GearmanJob $job) use (&$earlier) {
            $sent = $earlier?->sendData('late');
            $earlier = $job;
            return var_export($sent, true);
        }];""")
    server = new_server()
    worker = new_worker([server], f"--functions={file}")
    assert client(server, "keep", "x").stdout == b"NULL"
    assert client(server, "keep", "x").stdout == b"false"
    worker.wait_for_log("has its answer: nothing more was sent")
