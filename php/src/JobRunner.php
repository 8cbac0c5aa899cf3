<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Runs one job after the other: calls its function, sends its one final answer, counts and logs it. */
final class JobRunner
{
    private int $pid;
    private ?Job $job = null;

    /** @var array<string, \Closure(string, \GearmanJob): mixed> */
    private array $functions;

    /** @param array<string, callable> $functions */
    public function __construct(
        array $functions,
        private readonly Log $log,
        private readonly Counters $counters,
        private readonly ?Deadlines $deadlines,
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
        return $this->job === null
            ? []
            : ['function' => $this->job->functionName(), 'handle' => $this->job->handle()];
    }

    /** The result of the job, which libgearman then sends, or null when an answer has been sent. */
    public function run(string $name, \GearmanJob $given): ?string
    {
        $this->job = $job = new Job($given);
        $start = now();
        $this->deadlines?->startJob($start);
        $result = $thrown = null;
        try {
            try {
                $returned = $this->functions[$name]((string) $job->workload(), $job);
            } finally {
                $this->deadlines?->endJob();
            }
            $result = $job->result($returned);
        } catch (\Throwable $thrown) {
            // Left to the extension, it would end the worker.
            // The alarm may have come before it took effect above.
            $this->deadlines?->endJob();
        }
        if (getmypid() !== $this->pid) {
            // A process that the function forked: the job, and the connection, are its parent's.
            endProcess($thrown === null ? 0 : 1);
        }
        $seconds = now() - $start;
        $this->finish($job, $thrown, $seconds);
        return $result;
    }

    /** Sends the answer of a job whose function threw something; counts and logs every job. */
    private function finish(Job $job, ?\Throwable $thrown, float $seconds): void
    {
        $answer = $job->answer();
        $outcome = match (true) {
            $answer === Job::COMPLETED => 'done',
            $answer === Job::FAILED, $answer === null && $thrown instanceof JobFailed => 'failed',
            $answer === null && $thrown instanceof JobTimeLimit => 'timeout',
            $answer === null && $thrown === null => 'done',
            default => 'exception',
        };
        $this->counters->add($job->functionName(), $outcome === 'done' ? 'done' : 'failed', $seconds);
        if ($thrown !== null) {
            $this->reportThrown($job, $thrown, $seconds, $outcome);
        } elseif ($outcome !== 'done') {
            $this->report('warning', $seconds, $outcome, $outcome === 'failed' ? 'failed' : "sent: {$job->said()}");
        } elseif ($this->log->shows('debug')) {
            $this->report('debug', $seconds, 'done', 'done');
        }
        if ($thrown !== null && $answer === null) {
            $thrown instanceof JobFailed ? $job->sendFail() : $job->sendException(described($thrown));
        }
        $job->close();
    }

    private function reportThrown(Job $job, \Throwable $thrown, float $seconds, string $outcome): void
    {
        if ($thrown instanceof JobFailed && $job->answer() === null) {
            $this->report('warning', $seconds, $outcome, "failed: {$thrown->getMessage()}");
            return;
        }
        $where = $thrown instanceof JobTimeLimit
            ? interrupted($thrown)
            : "{$thrown->getFile()}:{$thrown->getLine()}";
        $after = $job->answer() === null ? '' : ' after its answer was sent';
        $text = 'raised ' . described($thrown) . " in $where$after";
        $this->report('error', $seconds, $outcome, $text, ['where' => $where]);
    }

    /** @param array<string, string> $more */
    private function report(string $level, float $seconds, string $outcome, string $text, array $more = []): void
    {
        $job = $this->jobFields();
        $this->log->write($level, "job $job[handle] of $job[function] $text", [
            ...$job, 'seconds' => round($seconds, 6), 'outcome' => $outcome, ...$more,
        ]);
    }
}
