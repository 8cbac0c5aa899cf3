<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Worker functions in the forms of the PHP manual's chapter on Gearman, served by worker.php:
// see test_manual_examples.py.

declare(strict_types=1);

return [
    // The result is returned.
    'reverse' => function ($job) {
        return strrev($job->workload());
    },
    // Parts of the result and the progress are sent while it works.
    'reverse_slowly' => function (GearmanJob $job) {
        $text = $job->workload();
        for ($done = 0; $done < $job->workloadSize(); $done++) {
            $job->sendStatus($done + 1, $job->workloadSize());
            $job->sendData($text[$done]);
        }
        return strrev($text);
    },
    // The function keeps something from job to job in its context.
    'count' => function ($job, &$count) {
        static $jobs = 0;
        $jobs++;
        $count = $jobs;
        return (string) $count;
    },
    'complete' => function (GearmanJob $job) {
        $job->sendComplete(strtoupper($job->workload()));
        return GEARMAN_SUCCESS;
    },
    'fail' => function (GearmanJob $job) {
        $job->sendFail();
        return GEARMAN_WORK_FAIL;
    },
    'set_return' => function (GearmanJob $job) {
        $job->setReturn(GEARMAN_WORK_FAIL);
        return null;
    },
    'exception' => function (GearmanJob $job) {
        $job->sendException('no such thing');
        return GEARMAN_WORK_EXCEPTION;
    },
    'throws' => function (GearmanJob $job) {
        throw new RuntimeException('no such thing');
    },
    'warn' => function (GearmanJob $job) {
        $job->sendWarning('careful');
        return 'warned';
    },
    'facts' => function (GearmanJob $job) {
        return implode(' ', [$job->functionName(), $job->unique(), strlen($job->handle()) > 2 ? 'handle' : '']);
    },
    'slow' => function (GearmanJob $job) {
        $job->sendStatus(1, 4);
        usleep(500000);
        return 'slow';
    },
    // A function of PHP itself.
    'upper' => 'strtoupper',
];
