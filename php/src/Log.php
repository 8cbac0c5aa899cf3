<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Writes the log to stderr, one line an entry. Times are UTC. */
final class Log
{
    public const LEVELS = ['debug' => 0, 'info' => 1, 'warning' => 2, 'error' => 3];
    public const FORMATS = ['text', 'json'];

    public function __construct(
        private readonly string $level,
        private readonly string $format,
        private readonly string $clientId,
    ) {
    }

    public function shows(string $level): bool
    {
        return self::LEVELS[$level] >= self::LEVELS[$this->level];
    }

    /** @param array<string, mixed> $fields what a line about a job has besides its message, in JSON */
    public function write(string $level, string $message, array $fields = []): void
    {
        if ($this->shows($level)) {
            fwrite(STDERR, $this->line(microtime(true), $level, $message, $fields) . "\n");
        }
    }

    /** @param array<string, mixed> $fields */
    public function line(float $time, string $level, string $message, array $fields = []): string
    {
        return $this->format === 'json'
            ? jsonLine($time, $level, $message, ['worker' => $this->clientId] + $fields)
            : textLine($time, $level, $message);
    }
}
