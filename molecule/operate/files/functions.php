<?php

// Jobs that go wrong in each way an operator meets, as functions of a PHP worker.
declare(strict_types=1);

return [
    'php_work' => static function (string $data): string {
        usleep((int) (1e6 * (float) $data));
        return $data;
    },
    'php_fail' => static function (string $data): string {
        if (file_exists('/tmp/broken')) {
            throw new RuntimeException("the disk is full: $data");
        }
        return 'fine';
    },
    'php_poison' => static function (string $data): string {
        posix_kill(getmypid(), SIGKILL);
        return '';
    },
    'php_leak' => static function (string $data): string {
        static $kept = [];
        ini_set('memory_limit', '-1');
        $kept[] = str_repeat('x', 200 * 2 ** 20);
        return '';
    },
];
