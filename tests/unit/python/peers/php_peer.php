<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// The PHP extension as a peer; test_interoperation.py describes what a peer does.

declare(strict_types=1);

function work(string $host, int $port, string $store): void
{
    $worker = new GearmanWorker();
    $worker->addServer($host, $port);
    $functions = [
        'reverse' => fn (GearmanJob $job): string => strrev($job->workload()),
        'store' => fn (GearmanJob $job): string => substr((string) file_put_contents($store, $job->workload()), 0, 0),
        'fail' => fn (GearmanJob $job): bool => $job->sendFail(),
        'raise' => fn (GearmanJob $job): bool => $job->sendException('raised by the peer'),
        'progress' => function (GearmanJob $job): string {
            $job->sendStatus(1, 2);
            $job->sendData("one \0");
            $job->sendData("two \xff");
            $job->sendStatus(2, 2);
            return 'three';
        },
    ];
    foreach ($functions as $name => $function) {
        $worker->addFunction("php-$name", $function);
    }
    while (true) {
        $worker->work();
    }
}

function submit(string $host, int $port, string $function, bool $background): array
{
    $client = new GearmanClient();
    $client->addServer($host, $port);
    $client->setTimeout(10000);
    $answer = ['outcome' => 'no answer', 'result' => '', 'data' => [], 'status' => null];
    $end = function (string $outcome) use (&$answer): callable {
        return function (GearmanTask $task) use (&$answer, $outcome): int {
            $answer['outcome'] = $outcome;
            $answer['result'] = base64_encode((string) $task->data());
            return GEARMAN_SUCCESS;
        };
    };
    $client->setCompleteCallback($end('done'));
    $client->setFailCallback($end('failed'));
    $client->setExceptionCallback($end('exception'));
    $client->setDataCallback(function (GearmanTask $task) use (&$answer): int {
        $answer['data'][] = base64_encode($task->data());
        return GEARMAN_SUCCESS;
    });
    $client->setStatusCallback(function (GearmanTask $task) use (&$answer): int {
        $answer['status'] = [$task->taskNumerator(), $task->taskDenominator()];
        return GEARMAN_SUCCESS;
    });
    $payload = stream_get_contents(STDIN);
    if ($background) {
        $handle = $client->doBackground($function, $payload);
        return ['outcome' => $handle === '' ? 'no answer' : 'queued'];
    }
    $client->addTask($function, $payload);
    $client->runTasks();
    return $answer;
}

[, $role, $server] = $argv;
[$host, $port] = explode(':', $server);
if ($role === 'worker') {
    work($host, (int) $port, $argv[3]);
}
echo json_encode(submit($host, (int) $port, $argv[3], $role === 'background'));
