# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the PHP manual's chapter on Gearman shows, as functions of our worker, as clients of it, and as workers.

php/README.md has the table of the patterns, which must name each of these tests' cases.
"""

from __future__ import annotations

import pathlib
import subprocess

import pytest
from php_harness import PHP_FOLDER, JobServer, PhpWorker, run_php, wait_until

FUNCTIONS = pathlib.Path(__file__).parent / "manual/functions.php"

# pattern: (the client's code after $client was made and got its server, what it prints)
CLIENTS = {
    "doNormal": ("echo $client->doNormal('reverse', 'Hello!');", "!olleH"),
    "doHigh, doLow": (
        "echo $client->doHigh('reverse', 'ab'), $client->doLow('upper', 'ab');",
        "baAB",
    ),
    "loop over return codes": (
        """do {
            $result = $client->doNormal('reverse_slowly', 'abc');
            switch ($client->returnCode()) {
                case GEARMAN_WORK_DATA: echo "data $result "; break;
                case GEARMAN_WORK_STATUS: [$of, $all] = $client->doStatus(); echo "status $of/$all "; break;
                case GEARMAN_WORK_FAIL: echo 'failed'; exit;
                case GEARMAN_SUCCESS: echo "result $result"; break;
                default: echo 'error ', $client->returnCode(); exit;
            }
        } while ($client->returnCode() != GEARMAN_SUCCESS);""",
        # libgearman 1.1 collects the parts of the result, and returns once.
        "result abccba",
    ),
    "doBackground and jobStatus": (
        """$handle = $client->doBackground('slow', 'x');
        if ($client->returnCode() != GEARMAN_SUCCESS) { exit('bad'); }
        $seen = [];
        do {
            usleep(50000);
            $status = $client->jobStatus($handle);
            $seen[json_encode($status)] = true;
        } while ($status[0]);
        echo isset($seen['[true,true,1,4]']) ? 'running' : 'not seen', ' then ', json_encode($status);""",
        "running then [false,false,0,0]",
    ),
    "task set with callbacks": (
        """$client->setCreatedCallback(function ($task) { echo 'created '; });
        $client->setStatusCallback(function ($task) {
            echo $task->taskNumerator(), '/', $task->taskDenominator(), ' ';
        });
        $client->setDataCallback(function ($task) { echo 'data ' . $task->data() . ' '; });
        $client->setCompleteCallback(function ($task) { echo 'complete ' . $task->data() . ' '; });
        $client->addTask('reverse_slowly', 'ab', null, '1');
        $client->runTasks();
        echo 'end';""",
        "created 1/2 data a 2/2 data b complete ba end",
    ),
    "several tasks with a context": (
        """$results = [];
        $client->setCompleteCallback(function ($task, $context) use (&$results) {
            $results[] = $context . ' ' . $task->data() . ' ' . $task->unique();
        });
        $client->addTask('reverse', 'ab', 'first', 'u1');
        $client->addTaskHigh('reverse', 'cd', 'second', 'u2');
        $client->addTaskLow('upper', 'ef', 'third', 'u3');
        $client->runTasks();
        sort($results);
        echo implode(', ', $results);""",
        "first ba u1, second dc u2, third EF u3",
    ),
    "background tasks and their status": (
        """$client->setCreatedCallback(function ($task) use (&$handle) { $handle = $task->jobHandle(); });
        $client->addTaskBackground('slow', 'x', null, 'bg');
        $client->runTasks();
        usleep(200000);
        $client->setStatusCallback(function ($task) {
            echo $task->isKnown() && $task->isRunning() ? 'running' : 'not';
        });
        $client->addTaskStatus($handle);
        $client->runTasks();""",
        "running",
    ),
    "warning callback": (
        """$client->setWarningCallback(function ($task) { echo 'warning ' . $task->data() . ' '; });
        $client->setCompleteCallback(function ($task) { echo $task->data(); });
        $client->addTask('warn', 'x');
        $client->runTasks();""",
        "warning careful warned",
    ),
    "fail callback": (
        """$client->setFailCallback(function ($task) { echo 'failed '; });
        $client->addTask('fail', 'x');
        $client->addTask('set_return', 'x');
        $client->runTasks();""",
        "failed failed ",
    ),
    "exception callback": (
        """$client->setExceptionCallback(function ($task) { echo 'exception ', $task->data(), ' '; });
        $client->addTask('exception', 'x');
        $client->runTasks();
        $client->addTask('throws', 'x');
        $client->runTasks();""",
        "exception no such thing exception RuntimeException: no such thing ",
    ),
    "sendComplete": (
        "echo $client->doNormal('complete', 'abc'), ' ', $client->returnCode();",
        "ABC 0",
    ),
    "facts of the job": ("echo $client->doNormal('facts', 'x', 'my-id');", "facts my-id handle"),
    "a context of the worker's function": (
        "echo $client->doNormal('count', 'x'), $client->doNormal('count', 'x');",
        "12",
    ),
    "ping": ("echo json_encode($client->ping('data'));", "true"),
    "timeout": (
        """$client->setTimeout(300);
        @$client->doNormal('nobody_serves_this', 'x');
        echo $client->returnCode() === GEARMAN_TIMEOUT ? 'timeout' : 'other';""",
        "timeout",
    ),
}

# pattern: code of a worker of one's own, after $worker was made and got its server
WORKERS = {
    "work loop": """$worker->addFunction('own', fn ($job) => strrev($job->workload()));
        while ($worker->work()) { if ($worker->returnCode() != GEARMAN_SUCCESS) { break; } }""",
    "a function with a context": """$count = 0;
        $worker->addFunction('own', function ($job, &$count) { $count++; return strrev($job->workload()); }, $count);
        while ($worker->work());""",
    "non-blocking, with wait": """$worker->addOptions(GEARMAN_WORKER_NON_BLOCKING);
        $worker->setTimeout(2500);
        $worker->addFunction('own', fn ($job) => strrev($job->workload()));
        while (@$worker->work() || $worker->returnCode() == GEARMAN_IO_WAIT
                || $worker->returnCode() == GEARMAN_NO_JOBS || $worker->returnCode() == GEARMAN_TIMEOUT) {
            if ($worker->returnCode() != GEARMAN_SUCCESS) { @$worker->wait(); }
        }""",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = JobServer().start()
    worker = PhpWorker(
        tmp_path_factory.mktemp("manual") / "log", [server], f"--functions={FUNCTIONS}"
    )
    try:
        server.wait_for_worker("worker-1")
        yield server
    finally:
        worker.stop()
        server.stop()


@pytest.mark.parametrize("pattern", CLIENTS)
def test_client(served, pattern):
    code, expected = CLIENTS[pattern]
    start = f"$client = new GearmanClient(); $client->addServer('127.0.0.1', {served.port});"
    done = run_php("-d", "display_errors=stderr", "-r", start + code)
    assert (done.returncode, done.stdout.decode()) == (0, expected), done.stderr


@pytest.mark.parametrize("pattern", WORKERS)
def test_worker_of_ones_own(new_server, client, pattern):
    server = new_server()
    start = f"$worker = new GearmanWorker(); $worker->addServer('127.0.0.1', {server.port});"
    process = subprocess.Popen(["php", "-r", start + WORKERS[pattern]], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: server.status().get("own", [0, 0, 0])[2] == 1, 10)
        for _number in range(3):
            assert client(server, "--timeout=60", "own", "abc").stdout == b"cba"
    finally:
        process.kill()
        process.wait()


def test_the_readme_names_each_pattern():
    text = (PHP_FOLDER / "README.md").read_text()
    for pattern in [*CLIENTS, *WORKERS]:
        assert f"| {pattern} |" in text, pattern
