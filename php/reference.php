<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// The functions worker.php serves by default: enough to prove a fleet and to probe it.

use Gearvisor\JobFailed;

return [
    'reverse' => static fn (string $data): string => strrev($data),

    // The same under a name that only PHP workers serve: a probe can ask for one.
    'reverse_php' => static fn (string $data): string => strrev($data),

    'echo' => static fn (string $data): string => $data,

    'sleep' => static function (string $data): string {
        if (!preg_match('/^[0-9]{1,6}(\.[0-9]+)?$/D', $data)) {
            throw new InvalidArgumentException("sleep: '$data' is not a number of seconds");
        }
        // SIGTERM cuts a sleep short, yet a worker asked to leave finishes its job.
        $end = hrtime(true) + (float) $data * 1e9;
        while (($left = $end - hrtime(true)) > 0) {
            usleep((int) ceil($left / 1000));
        }
        return $data;
    },

    'fail' => static fn (string $data): string => throw ($data === ''
        ? new JobFailed('asked to fail')
        : new RuntimeException($data)),
];
