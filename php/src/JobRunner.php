<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Runs one job after the other: calls its function, sends its one final answer, counts, logs and keeps it. */
final class JobRunner
{
    private int $pid;
    private ?Job $job = null;
    private float $since = 0.0;
    private ?\Throwable $thrown = null;

    /** @var array<string, \Closure(string, \GearmanJob): mixed> */
    private array $functions;

    /**
     * @param array<string, callable> $functions
     * @param bool $logJobs whether to log the start and the end of each job at level info
     */
    public function __construct(
        array $functions,
        private readonly string $clientId,
        private readonly Log $log,
        private readonly Counters $counters,
        private readonly ?Deadlines $deadlines,
        private readonly ?StatusFile $statusFile,
        private readonly ?FailedStore $failedStore,
        private readonly bool $logJobs,
    ) {
        $this->pid = getmypid();
        $this->functions = array_map(workerFunction(...), $functions);
    }

    public function inJob(): bool
    {
        return $this->job !== null;
    }

    /** The job's answer has gone, or its connection was lost. */
    public function over(): void
    {
        $this->job = null;
    }

    /** @return array<string, string> what a log line reports of the running job */
    public function jobFields(): array
    {
        return $this->job === null ? [] : [
            'function' => $this->job->functionName(),
            'handle' => $this->job->handle(),
            'unique' => $this->job->unique(),
        ];
    }

    /** The result of the job, which libgearman then sends, or null when an answer has been sent. */
    public function run(string $name, \GearmanJob $given): ?string
    {
        $this->job = $job = new Job($given, $this->keep(...));
        $this->thrown = null;
        $this->since = microtime(true);
        $made = UuidV7::madeAt($job->unique(), $this->since);
        $wait = $made === null ? null : $this->since - $made;
        $this->statusFile?->startJob($name, $job->handle(), $job->unique(), $this->since, $wait);
        if ($this->logJobs) {
            $this->report('info', 'started', ['outcome' => 'started']);
        }
        $start = now();
        $result = $this->call($name, $job, $start);
        if (getmypid() !== $this->pid) {
            // A process that the function forked: the job, and the connection, are its parent's.
            endProcess($this->thrown === null ? 0 : 1);
        }
        $this->finish($job, now() - $start, $wait);
        $this->statusFile?->endJob();
        return $result;
    }

    private function call(string $name, Job $job, float $start): ?string
    {
        $this->deadlines?->startJob($start);
        try {
            try {
                $returned = $this->functions[$name]($job->workload(), $job);
            } finally {
                $this->deadlines?->endJob();
            }
            return $job->result($returned);
        } catch (\Throwable $thrown) {
            // Left to the extension, it would end the worker.
            $this->thrown = $thrown;
            // The alarm may have come before it took effect above.
            $this->deadlines?->endJob();
            return null;
        }
    }

    /** Counts and logs a job, and sends the answer of one whose function threw something. */
    private function finish(Job $job, float $seconds, ?float $wait): void
    {
        $answer = $job->answer();
        $outcome = $this->outcome($answer);
        $this->counters->add($job->functionName(), $outcome === 'done' ? 'done' : 'failed', $seconds, $wait);
        $more = ['seconds' => round($seconds, 6), 'outcome' => $outcome];
        if ($this->thrown instanceof JobFailed && $answer === null) {
            $this->report('warning', "failed: {$this->thrown->getMessage()}", $more);
        } elseif ($this->thrown !== null) {
            $where = thrownAt($this->thrown);
            $after = $answer === null ? '' : ' after its answer was sent';
            $text = 'raised ' . described($this->thrown) . " in $where$after";
            $this->report('error', $text, $more + ['where' => $where]);
        } elseif ($outcome !== 'done') {
            $this->report('warning', $outcome === 'failed' ? 'failed' : "failed: {$job->errorText()}", $more);
        } elseif ($this->logJobs || $this->log->shows('debug')) {
            $this->report($this->logJobs ? 'info' : 'debug', 'done', $more);
        }
        if ($this->thrown !== null && $answer === null) {
            $this->thrown instanceof JobFailed ? $job->sendFail() : $job->sendException(described($this->thrown));
        }
        $job->close();
    }

    /** How a job ended, by the answer that was sent, and else by what was thrown. */
    private function outcome(?string $answer): string
    {
        return match (true) {
            $answer === Job::COMPLETED, $answer === null && $this->thrown === null => 'done',
            $answer === Job::FAILED, $answer === null && $this->thrown instanceof JobFailed => 'failed',
            $answer === null && $this->thrown instanceof JobTimeLimit => 'timeout',
            default => 'exception',
        };
    }

    /** Keeps a job that fails now, before its failure is sent. */
    private function keep(string $answer, string $errorText): void
    {
        if ($this->failedStore === null || $this->job === null) {
            return;
        }
        $thrown = $this->thrown;
        $error = $thrown === null ? $errorText : described($thrown);
        $attempt = FailedJob::attempt(
            $this->job,
            $thrown === null ? $this->outcome($answer) : $this->outcome(null),
            $error === '' ? 'sent by the function' : $error,
            $thrown === null ? null : (string) $thrown,
            $this->clientId,
            $this->since,
        );
        try {
            $this->failedStore->add($this->job->functionName(), $this->job->workload(), $attempt);
        } catch (\RuntimeException $problem) {
            $this->report('error', "could not be kept with the failed jobs: {$problem->getMessage()}");
        }
    }

    /** @param array<string, mixed> $more */
    private function report(string $level, string $text, array $more = []): void
    {
        $job = $this->jobFields();
        $text = "job $job[handle] (unique $job[unique]) of $job[function] $text";
        $this->log->write($level, $text, [...$job, ...$more]);
    }
}
