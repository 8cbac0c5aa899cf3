<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * The file that shows what a worker process does: docs/worker-facts.md has the format.
 *
 * It is replaced at once, so that a reader never sees half of it. Its first member is the job in
 * progress, in a space of fixed size that is overwritten before each job and after it: when a job
 * kills its worker, the file still names it.
 */
final class StatusFile
{
    public const DIRECTORY = '/run/gearvisor';

    private const TEXT_BYTES = 63; // kept of a handle and of a unique id: what the protocol allows
    private const MODE = 0640;
    private const READ_BYTES = 2 ** 20;
    private const HEAD = '{"job":';

    private string $fresh;
    private int $room;
    private string $record = 'null';

    /** @var ?resource the file as it was written last */
    private $file = null;

    public function __construct(private readonly string $path)
    {
        $this->fresh = "$path." . getmypid() . '.tmp';
        $this->reserve([]);
    }

    /** The path of the file of a worker, HOST/PROCESS as in GEARVISOR_WORKER; null: it has no place for one. */
    public static function defaultPath(string $worker, string $user, string $directory = self::DIRECTORY): ?string
    {
        $process = explode('/', $worker, 2)[1] ?? '';
        $folder = "$directory/$user";
        return $process === '' || !is_dir($folder) ? null : "$folder/" . fileName($process) . '.json';
    }

    /**
     * Keeps room for the job in progress of functions with these names.
     *
     * @param list<string|int> $names
     */
    public function reserve(array $names): void
    {
        $length = static fn (string|int $name): int => strlen(encoded([(string) $name]));
        $longest = max([2, ...array_map($length, $names)]);
        // A byte that is not UTF-8 takes six characters in JSON.
        $this->room = $longest + 2 * (6 * self::TEXT_BYTES + 2) + 120;
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

    /**
     * What the process that had this file before left here; null: nothing.
     *
     * @return ?array{pid: int, alive: bool, died: int, jobs: list<array<string, string>>} of each job the
     *     function, handle and unique
     */
    public function leftover(): ?array
    {
        $text = is_file($this->path) ? @file_get_contents($this->path, length: self::READ_BYTES) : false;
        $status = $text === false ? null : json_decode($text, true, 16);
        if (!is_array($status)) {
            return null;
        }
        $number = static fn (mixed $value): int => is_int($value) ? $value : 0;
        [$pid, $started] = [$number($status['pid'] ?? 0), $number($status['pid_started'] ?? 0)];
        $others = is_array($status['other_jobs'] ?? null) ? $status['other_jobs'] : [];
        $jobs = array_filter([$status['job'] ?? null, ...array_values($others)], is_array(...));
        $text = static fn (array $job, string $key): string => is_string($job[$key] ?? null) ? $job[$key] : '';
        return [
            'pid' => $pid,
            'alive' => $pid > 0 && $started > 0 && pidStarted($pid) === $started,
            'died' => max(0, $number($status['died'] ?? 0)),
            'jobs' => array_values(array_map(static fn (array $job): array => [
                'function' => $text($job, 'function'),
                'handle' => $text($job, 'handle'),
                'unique' => $text($job, 'unique'),
            ], $jobs)),
        ];
    }

    /** @param array<string, mixed> $status all but the job in progress */
    public function write(array $status): bool
    {
        $text = self::HEAD . str_pad($this->record, $this->room) . ",\n" . substr(encoded($status), 1) . "\n";
        @unlink($this->fresh);
        $file = @fopen($this->fresh, 'x');
        if ($file === false) {
            return false;
        }
        chmod($this->fresh, self::MODE);
        if (@fwrite($file, $text) === strlen($text) && @rename($this->fresh, $this->path)) {
            $this->file = $file;
            return true;
        }
        @unlink($this->fresh);
        return false;
    }

    /**
     * Puts the job into the file before its function is called.
     *
     * @param float $since seconds since the epoch, and
     * @param ?float $wait seconds from its submission to then, null when unknown
     */
    public function startJob(string $function, string $handle, string $unique, float $since, ?float $wait): void
    {
        $this->put(encoded([
            'function' => $function,
            'handle' => substr($handle, 0, self::TEXT_BYTES),
            'unique' => substr($unique, 0, self::TEXT_BYTES),
            'since' => round($since, 3),
            'wait' => $wait === null ? null : round($wait, 3),
        ]));
    }

    public function endJob(): void
    {
        $this->put('null');
    }

    public function remove(): void
    {
        $this->file = null;
        @unlink($this->path);
    }

    /** A failure here shows at the next write(). */
    private function put(string $record): void
    {
        $this->record = strlen($record) <= $this->room ? $record : 'null';
        if ($this->file !== null && fseek($this->file, strlen(self::HEAD)) === 0) {
            @fwrite($this->file, str_pad($this->record, $this->room));
        }
    }
}
