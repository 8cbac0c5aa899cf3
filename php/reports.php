<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// What a worker tells of itself: log lines, counters, and a file with them.

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

/** One line whatever the message holds: payloads must not be able to forge log entries. */
function textLine(float $time, string $level, string $message): string
{
    $text = preg_replace('/[\x00-\x1f\x7f]+/', ' ', $message);
    return gmdate('Y-m-d\TH:i:sO', (int) $time) . ' ' . strtoupper($level) . " $text";
}

/** @param array<string, mixed> $fields */
function jsonLine(float $time, string $level, string $message, array $fields): string
{
    $moment = gmdate('Y-m-d\TH:i:s', (int) $time) . sprintf('.%03dZ', (int) (fmod($time, 1) * 1000));
    return encoded(['time' => $moment, 'level' => $level, 'message' => $message] + $fields);
}

/**
 * JSON, in which bytes that are no UTF-8 are replaced.
 *
 * @param array<string, mixed> $value
 */
function encoded(array $value): string
{
    return json_encode($value, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE
        | JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES);
}

/** The jobs of each function: done, failed, and the seconds they took together. */
final class Counters
{
    private const NONE = ['done' => 0, 'failed' => 0, 'seconds' => 0.0];

    public int $jobs = 0;

    /** @var array<string, array{done: int, failed: int, seconds: float}> */
    private array $functions;

    /** @param list<string> $names of the functions */
    public function __construct(array $names)
    {
        $this->functions = array_fill_keys($names, self::NONE);
    }

    /** Counts a job that is over; $outcome is done or failed. */
    public function add(string $function, string $outcome, float $seconds): void
    {
        $this->jobs++;
        $this->functions[$function][$outcome]++;
        $this->functions[$function]['seconds'] += $seconds;
    }

    /** @return array<string, mixed> as the status file has them */
    public function toArray(): array
    {
        $total = self::NONE;
        $functions = $this->functions;
        foreach ($functions as &$counts) {
            foreach ($counts as $key => $count) {
                $total[$key] += $count;
            }
            $counts['seconds'] = round($counts['seconds'], 6);
        }
        $total['seconds'] = round($total['seconds'], 6);
        return [...$total, 'functions' => $functions];
    }
}

/** A file that a monitor can read, replaced at once: a reader never sees half of it. */
final class StatusFile
{
    private string $fresh;

    public function __construct(private readonly string $path)
    {
        $this->fresh = "$path." . getmypid() . '.tmp';
    }

    /** Finds out whether it can be written, and leaves it alone. */
    public function check(): void
    {
        $directory = dirname($this->path);
        if ($this->path === '' || is_dir($this->path) || @file_put_contents($this->fresh, '') === false) {
            throw new UsageError("--status-file: '$this->path' cannot be written: give the path of a file in a"
                . " directory that this user may write to, not '$directory'");
        }
        unlink($this->fresh);
    }

    /** @param array<string, mixed> $status */
    public function write(array $status): bool
    {
        $text = encoded($status) . "\n";
        if (@file_put_contents($this->fresh, $text) === strlen($text) && @rename($this->fresh, $this->path)) {
            return true;
        }
        @unlink($this->fresh);
        return false;
    }

    public function remove(): void
    {
        @unlink($this->path);
    }
}
