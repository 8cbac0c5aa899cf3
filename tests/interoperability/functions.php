<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What php/worker.php serves for the clients of others: see table.py.

declare(strict_types=1);

$echo = static fn (string $data): string => $data;

return [
    'php-echo' => $echo,
    'php-größe' => $echo,
    'php-unique' => static fn (string $data, GearmanJob $job): string => $job->unique(),
    'php-fail' => static fn (string $data): string => throw new Gearvisor\JobFailed('asked to'),
    'php-raise' => static fn (string $data): string => throw new ValueError('raised'),
    'php-progress' => static function (string $data, GearmanJob $job): string {
        $job->sendStatus(1, 2);
        $job->sendWarning('careful');
        $job->sendData("part \0\xff");
        $job->sendStatus(2, 2);
        return 'end';
    },
    'php-slow' => static function (string $data, GearmanJob $job): string {
        $job->sendStatus(1, 2);
        usleep(700_000);
        return '';
    },
];
