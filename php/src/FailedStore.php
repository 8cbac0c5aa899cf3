<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * Keeps failed jobs in a directory. An entry is on the disk before its failure is reported to the job
 * server: a worker that is killed between the two leaves the entry, and the job is handed out again.
 * Several workers share a directory without a lock: each file is written at once, under its own name.
 */
final class FailedStore
{
    public const DIRECTORY = '/var/lib/gearvisor/failed';

    private const ENTRIES = 10_000; // kept, but for the few of workers that write meanwhile
    private const BYTES = 256 * 2 ** 20; // of all files together, likewise
    private const FILE_BYTES = 24 * 2 ** 20;
    private const TRIM_EVERY = 16; // entries that a worker adds between two looks at what is there
    private const TRIM_TO = 0.95; // share of the bounds that is left
    private const LEFTOVER = 3600; // seconds after which a file that was never finished is removed
    private const MODE = 0640;

    public int $kept = 0;
    public int $dropped = 0;
    public int $unwritten = 0;
    private int $untilTrim = 0;

    public function __construct(
        private readonly string $directory,
        private readonly bool $keepPayload = true,
        private readonly int $maxEntries = self::ENTRIES,
        private readonly int $maxBytes = self::BYTES,
    ) {
    }

    /** Where failed jobs of a user's workers are kept, if there is such a place. */
    public static function defaultDirectory(string $user): ?string
    {
        $directory = self::DIRECTORY . "/$user";
        return is_dir($directory) ? $directory : null;
    }

    /** Finds out whether entries can be written. */
    public function check(): void
    {
        if (!is_dir($this->directory) || !is_writable($this->directory)) {
            throw new UsageError("--failed-dir: '$this->directory' is not a directory that this user may write to:"
                . ' make it, or leave the option out');
        }
    }

    /**
     * Keeps a job that failed for good. A retry becomes one more attempt of its entry, or a new entry with
     * that id where the job failed first on another host.
     *
     * @param array<string, mixed> $attempt of FailedJob::attempt()
     * @throws \RuntimeException when it cannot be written; that is counted
     */
    public function add(string $function, string $payload, array $attempt): string
    {
        $retried = FailedJob::retried($attempt['unique']);
        $entry = $retried === null ? null : $this->read($retried);
        $id = $retried ?? UuidV7::generate();
        $entry = $entry === null
            ? FailedJob::entry($id, $function, $attempt, $payload, $this->keepPayload)
            : FailedJob::withAttempt($entry, $attempt);
        $this->write($id, encoded($entry) . "\n");
        $this->kept++;
        if (--$this->untilTrim < 0) {
            $this->trim();
        }
        return $id;
    }

    /** @return ?array<string, mixed> an entry that is here; one that cannot be read is made again */
    private function read(string $id): ?array
    {
        $path = "$this->directory/$id.json";
        $isFile = is_file($path) && !is_link($path) && filesize($path) <= self::FILE_BYTES;
        return $isFile ? FailedJob::parse((string) @file_get_contents($path), $id) : null;
    }

    private function write(string $id, string $text): void
    {
        $fresh = "$this->directory/.$id." . getmypid() . '.tmp';
        @unlink($fresh);
        $problem = 'it was cut short';
        set_error_handler(static function (int|string ...$report) use (&$problem): bool {
            $problem = (string) $report[1];
            return true;
        });
        try {
            $file = fopen($fresh, 'x');
            // PHP cannot sync a directory. Syncing the file again after it was renamed brings the new name
            // to the disk too, on the file systems with a journal.
            $written = $file !== false && chmod($fresh, self::MODE) && fwrite($file, $text) === strlen($text)
                && fsync($file) && rename($fresh, "$this->directory/$id.json") && fsync($file);
        } finally {
            restore_error_handler();
        }
        if (!$written) {
            @unlink($fresh);
            $this->unwritten++;
            throw new \RuntimeException($problem);
        }
    }

    /** Removes the oldest entries until the bounds hold; ids sort by time. */
    private function trim(): void
    {
        $this->untilTrim = self::TRIM_EVERY;
        clearstatcache();
        $sizes = $this->sizes();
        [$number, $bytes] = [count($sizes), array_sum($sizes)];
        if ($number <= $this->maxEntries && $bytes <= $this->maxBytes) {
            return;
        }
        ksort($sizes, SORT_STRING);
        array_pop($sizes);
        foreach ($sizes as $name => $size) {
            if ($number <= self::TRIM_TO * $this->maxEntries && $bytes <= self::TRIM_TO * $this->maxBytes) {
                return;
            }
            if (@unlink("$this->directory/$name")) {
                $this->dropped++;
            }
            $number--;
            $bytes -= $size;
        }
    }

    /** @return array<string, int> bytes of each entry's file; what other workers never finished is removed */
    private function sizes(): array
    {
        $sizes = [];
        foreach (@scandir($this->directory) ?: [] as $name) {
            $facts = @lstat("$this->directory/$name");
            if ($facts !== false && FailedJob::isFileName($name)) {
                $sizes[$name] = $facts['size'];
            } elseif ($facts !== false && str_ends_with($name, '.tmp') && $facts['mtime'] < time() - self::LEFTOVER) {
                @unlink("$this->directory/$name");
            }
        }
        return $sizes;
    }
}
