<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// The PHP extension as a peer, without Gearvisor; table.py describes what a peer does.

declare(strict_types=1);

[, $role, $host, $port, $name] = $argv;

function work(string $host, int $port, string $prefix): never
{
    $echo = fn (GearmanJob $job): string => $job->workload();
    $functions = [
        'echo' => $echo,
        'größe' => $echo,
        'unique' => fn (GearmanJob $job): string => $job->unique(),
        'fail' => fn (GearmanJob $job): bool => $job->sendFail(),
        'raise' => fn (GearmanJob $job): bool => $job->sendException('raised by the peer'),
        'progress' => function (GearmanJob $job): string {
            $job->sendStatus(1, 2);
            $job->sendWarning('careful');
            $job->sendData("part \0\xff");
            $job->sendStatus(2, 2);
            return 'end';
        },
        'slow' => function (GearmanJob $job): string {
            $job->sendStatus(1, 2);
            usleep(700000);
            return '';
        },
    ];
    $worker = new GearmanWorker();
    $worker->addServer($host, $port);
    foreach ($functions as $function => $code) {
        $worker->addFunction("$prefix-$function", $code);
    }
    while (true) {
        $worker->work();
    }
}

function submit(GearmanClient $client, string $function, string $unique): array
{
    $answer = ['outcome' => 'no answer', 'result' => '', 'data' => [], 'warnings' => [], 'status' => null];
    $end = function (string $outcome) use (&$answer): Closure {
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
    $client->setWarningCallback(function (GearmanTask $task) use (&$answer): int {
        $answer['warnings'][] = base64_encode($task->data());
        return GEARMAN_SUCCESS;
    });
    $client->setStatusCallback(function (GearmanTask $task) use (&$answer): int {
        $answer['status'] = [$task->taskNumerator(), $task->taskDenominator()];
        return GEARMAN_SUCCESS;
    });
    $client->addTask($function, stream_get_contents(STDIN), null, $unique);
    $client->runTasks();
    return $answer;
}

function background(GearmanClient $client, string $function, string $unique): array
{
    $handle = $client->doBackground($function, 'x', $unique);
    $statuses = [];
    do {
        usleep(100000);
        $statuses[] = array_map(intval(...), $client->jobStatus($handle));
    } while (end($statuses)[0] && count($statuses) < 80);
    return ['outcome' => $handle === '' ? 'refused' : 'queued', 'statuses' => $statuses];
}

if ($role === 'worker') {
    work($host, (int) $port, $name);
}
$client = new GearmanClient();
$client->addServer($host, (int) $port);
$client->setTimeout(20000);
echo json_encode($role === 'client' ? submit($client, $name, $argv[5]) : background($client, $name, $argv[5]));
