<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** What the status file has of a worker, but for the job in progress: docs/worker-facts.md has the format. */
final class Facts
{
    private const VERSION = 1;

    /** Jobs in which this process's predecessors died. */
    public int $died = 0;

    private float $started;

    public function __construct(
        private readonly string $clientId,
        private readonly Counters $counters,
        private readonly Limits $limits,
        private readonly float $jobTimeout,
        private readonly float $stopTimeout,
        private readonly ?FailedStore $failedStore,
    ) {
        $this->started = microtime(true);
    }

    /** @return array<string, ?string> the program and the process, as Supervisor and the roles set them */
    private static function names(): array
    {
        $process = explode('/', (string) getenv('GEARVISOR_WORKER'), 2)[1] ?? '';
        $process = $process === '' ? (string) getenv('SUPERVISOR_PROCESS_NAME') : $process;
        $program = (string) getenv('SUPERVISOR_GROUP_NAME');
        if ($program === $process) {
            // One section per process: the name ends with its number.
            $program = preg_replace('/_\d+$/D', '', $program);
        }
        return ['program' => $program ?: null, 'process' => $process ?: null];
    }

    /**
     * @param array<string, bool> $servers by name: whether it is connected
     * @param list<string> $paused functions
     * @return array<string, mixed>
     */
    public function toArray(array $servers, array $paused): array
    {
        return [
            'version' => self::VERSION,
            'client_id' => $this->clientId,
            'language' => 'php',
            ...self::names(),
            'pid' => getmypid(),
            'pid_started' => pidStarted(getmypid()),
            'release' => getenv('GEARVISOR_RELEASE') ?: null,
            'started' => round($this->started, 3),
            'updated' => round(microtime(true), 3),
            ...$this->counters->toArray(),
            'died' => $this->died,
            'paused' => $paused,
            'servers' => (object) $servers,
            'rss' => round(rssMib(), 1),
            'limits' => [
                'max_jobs' => $this->limits->jobs ?: null,
                'max_seconds' => $this->limits->seconds ?: null,
                'max_rss' => $this->limits->rssMib ?: null,
                'job_timeout' => $this->jobTimeout ?: null,
                'stop_timeout' => $this->stopTimeout ?: null,
            ],
            'failed_jobs' => [
                'kept' => $this->failedStore?->kept ?? 0,
                'dropped' => $this->failedStore?->dropped ?? 0,
                'unwritten' => $this->failedStore?->unwritten ?? 0,
            ],
        ];
    }
}
