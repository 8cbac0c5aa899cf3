<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// This process: its clock, its memory, its end.

namespace Gearvisor;

/** Seconds on a clock that is never set. */
function now(): float
{
    return hrtime(true) / 1e9;
}

/** From 0 to 1, both included. */
function random(): float
{
    return mt_rand() / mt_getrandmax();
}

/** Not exit(): while that unwinds the stack, the extension answers the job with an exception. */
function endProcess(int $code): never
{
    pcntl_exec('/bin/sh', ['-c', "exit $code"]);
    posix_kill(getmypid(), SIGKILL);
    exit($code);
}

/** FILE:LINE that a signal handler interrupted by throwing, whether PHP or one of Gearvisor's handlers called it. */
function interrupted(\Throwable $thrown): string
{
    foreach ($thrown->getTrace() as $call) {
        if (isset($call['file']) && dirname($call['file']) !== __DIR__) {
            return "$call[file]:$call[line]";
        }
    }
    return "{$thrown->getFile()}:{$thrown->getLine()}";
}

/** Resident memory of this process: memory_get_usage() does not see what C libraries allocate. */
function rssMib(): float
{
    preg_match('/^VmRSS:\s+(\d+)/m', (string) @file_get_contents('/proc/self/status'), $match);
    return (int) ($match[1] ?? 0) / 1024;
}

/** When a process started, in clock ticks since boot (field 22 of proc_pid_stat(5)); 0: no such process. */
function pidStarted(int $pid): int
{
    // Counted behind the name, which may hold blanks.
    $fields = explode(' ', strrchr((string) @file_get_contents("/proc/$pid/stat"), ')') ?: '');
    return (int) ($fields[20] ?? 0);
}

/** The name of the user that this process runs as; its number where it has none. */
function userName(): string
{
    return posix_getpwuid(posix_geteuid())['name'] ?? (string) posix_geteuid();
}
