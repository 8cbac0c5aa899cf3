<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * A failed job as it is kept, one file ID.json each: docs/worker-facts.md has the format, which Python
 * workers write as well. A retry carries the unique id `gvr:ID:ATTEMPT`, so that it is known for one
 * on every host.
 */
final class FailedJob
{
    public const PAYLOAD_BYTES = 16 * 2 ** 20; // of a payload that is kept

    private const VERSION = 1;
    private const TEXT_BYTES = 65536; // kept of an error's text and of a trace
    private const ATTEMPTS = 100; // kept of an entry: the first and the latest
    private const ID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}';

    /** The id of the entry that a job with this unique id is a retry of; null: it is not a retry. */
    public static function retried(string $unique): ?string
    {
        return preg_match('/^gvr:(' . self::ID . '):[1-9][0-9]{0,8}$/D', $unique, $part) ? $part[1] : null;
    }

    /** Whether it is the name of an entry's file. */
    public static function isFileName(string $name): bool
    {
        return preg_match('/^' . self::ID . '\.json$/D', $name) === 1;
    }

    /**
     * One attempt as an entry has it.
     *
     * @param string $outcome failed, exception or timeout
     * @param float $started seconds since the epoch
     * @return array<string, mixed>
     */
    public static function attempt(
        Job $job,
        string $outcome,
        string $error,
        ?string $trace,
        string $worker,
        float $started,
    ): array {
        return [
            'unique' => $job->unique(),
            'handle' => $job->handle(),
            'outcome' => $outcome,
            'error' => substr($error, 0, self::TEXT_BYTES),
            'traceback' => $trace === null ? null : substr($trace, 0, self::TEXT_BYTES),
            'started' => round($started, 3),
            'failed' => round(microtime(true), 3),
            'worker' => $worker,
            'release' => getenv('GEARVISOR_RELEASE') ?: null,
        ];
    }

    /**
     * A new entry.
     *
     * @param array<string, mixed> $attempt
     * @return array<string, mixed>
     */
    public static function entry(string $id, string $function, array $attempt, string $payload, bool $keep): array
    {
        $kept = $keep && strlen($payload) <= self::PAYLOAD_BYTES;
        return [
            'version' => self::VERSION,
            'id' => $id,
            'function' => $function,
            ...$attempt,
            'attempts' => [$attempt],
            'payload_bytes' => strlen($payload),
            'payload' => $kept ? base64_encode($payload) : null,
        ];
    }

    /**
     * The entry with one more attempt, whose facts are now the entry's own.
     *
     * @param array<string, mixed> $entry
     * @param array<string, mixed> $attempt
     * @return array<string, mixed>
     */
    public static function withAttempt(array $entry, array $attempt): array
    {
        $attempts = [...$entry['attempts'], $attempt];
        if (count($attempts) > self::ATTEMPTS) {
            $attempts = [$attempts[0], ...array_slice($attempts, 1 - self::ATTEMPTS)];
        }
        return [...$entry, ...$attempt, 'attempts' => $attempts];
    }

    /**
     * The entry in a file's content; null when it is not one, or of a newer version of the format.
     *
     * @return ?array<string, mixed>
     */
    public static function parse(string $content, string $id): ?array
    {
        $entry = json_decode($content, true, 16);
        $isEntry = is_array($entry) && ($entry['id'] ?? null) === $id && ($entry['version'] ?? null) === self::VERSION
            && is_string($entry['function'] ?? null) && is_array($entry['attempts'] ?? null);
        return $isEntry ? ['attempts' => array_values($entry['attempts'])] + $entry : null;
    }
}
