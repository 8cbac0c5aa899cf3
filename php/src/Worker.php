<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Serves functions on all servers that answer, one job at a time. */
final class Worker
{
    /** EX_TEMPFAIL of sysexits.h: left in the middle of a job. */
    public const LEFT_JOB = 75;

    /** Seconds between two writes of the status file, at least. */
    private const STATUS_SECONDS = 1;

    private float $statusAt = 0.0;
    private bool $statusWritten = true;
    private float $started;
    private Counters $counters;
    private Facts $facts;
    private Pauses $pauses;

    /** @var list<string> functions that are paused */
    private array $paused = [];

    private ?Deadlines $deadlines;
    private JobRunner $runner;
    private Connections $connections;
    private ?string $signal = null;

    /**
     * @param array<string, Server> $servers by name
     * @param array<string, callable(string, \GearmanJob): ?string> $functions
     * @param float $jobTimeout seconds for a job, and
     * @param float $stopTimeout for the running one once the worker was asked to leave; 0 means no limit
     * @param ?FailedStore $failedStore keeps the jobs that fail
     * @param bool $logJobs whether to log the start and the end of each job at level info
     */
    public function __construct(
        array $servers,
        private readonly array $functions,
        private readonly string $clientId,
        private readonly Limits $limits,
        private readonly Log $log,
        float $jobTimeout = 0,
        float $stopTimeout = 0,
        private readonly ?StatusFile $statusFile = null,
        ?FailedStore $failedStore = null,
        bool $logJobs = false,
        ?Pauses $pauses = null,
    ) {
        $names = array_keys($functions);
        $this->started = now();
        $this->counters = new Counters($names);
        $this->facts = new Facts($clientId, $this->counters, $limits, $jobTimeout, $stopTimeout, $failedStore);
        $this->pauses = $pauses ?? new Pauses(array_map(strval(...), $names));
        $this->deadlines = $jobTimeout > 0 || $stopTimeout > 0 ? $this->deadlines($jobTimeout, $stopTimeout) : null;
        $this->runner = new JobRunner(
            $functions,
            $clientId,
            $log,
            $this->counters,
            $this->deadlines,
            $statusFile,
            $failedStore,
            $logJobs,
        );
        $statusFile?->reserve($names);
        $this->connections = new Connections($servers, $names, $this->runner->run(...), $clientId, $log);
    }

    private function deadlines(float $jobTimeout, float $stopTimeout): Deadlines
    {
        $lastWords = fn (float $seconds, string $why): string =>
            $this->log->line(microtime(true) + $seconds, 'error', $this->leaving($why), $this->runner->jobFields());
        try {
            return new Deadlines($jobTimeout, $stopTimeout, self::LEFT_JOB, $lastWords);
        } catch (\Throwable $error) {
            throw new UsageError('--job-timeout and --stop-timeout need the PHP extension FFI, and ffi.enable not to'
                . " be false: install and enable it, or leave them out ({$error->getMessage()})");
        }
    }

    /** Returns when the worker was asked to leave, or has reached a limit. */
    public function run(): void
    {
        $this->catchSignals();
        $this->catchWarnings();
        $this->log->write('info', "worker $this->clientId starts: " . implode(', ', array_keys($this->functions)));
        $this->reportLeftover();
        while (($reason = $this->reasonToLeave()) === null) {
            $this->connections->renew(fn (): bool => $this->signal !== null);
            if ($this->statusFile !== null) {
                $this->publish($this->statusFile);
            }
            // A signal may have come meanwhile; waiting for a job would hide it.
            if ($this->signal === null) {
                $this->connections->serve($this->pausedNow());
                $this->runner->over();
            }
        }
        $this->connections->close();
        $this->statusFile?->remove();
        $this->log->write('info', "worker $this->clientId leaves: $reason, jobs {$this->counters->jobs}");
    }

    private function catchSignals(): void
    {
        pcntl_async_signals(true);
        foreach (['SIGTERM' => SIGTERM, 'SIGINT' => SIGINT] as $name => $number) {
            pcntl_signal($number, fn () => $this->askedToLeave($name));
        }
        $this->deadlines?->catchAlarm();
    }

    private function askedToLeave(string $signal): void
    {
        if ($this->signal !== null) {
            $this->leaveAtOnce("$this->signal, then $signal");
        }
        $this->signal = $signal;
        $this->deadlines?->stop(now(), $this->runner->inJob());
    }

    /** Ends the process without an answer for the running job: its server hands it to another worker. */
    private function leaveAtOnce(string $why): never
    {
        $inJob = $this->runner->inJob();
        $this->log->write($inJob ? 'error' : 'info', $this->leaving($why), $this->runner->jobFields());
        if (!$inJob) {
            $this->statusFile?->remove();
        }
        endProcess($inJob ? self::LEFT_JOB : 0);
    }

    private function leaving(string $why): string
    {
        $job = $this->runner->jobFields();
        $left = $job === []
            ? ''
            : "; job $job[handle] (unique $job[unique]) of $job[function] is left to another worker";
        return "worker $this->clientId leaves at once: $why, jobs {$this->counters->jobs}$left";
    }

    /** PHP warnings of functions go to the log; those of the extension only repeat its return code. */
    private function catchWarnings(): void
    {
        set_error_handler(function (int $level, string $message, string $file, int $line): bool {
            if (str_starts_with($message, 'GearmanWorker::')) {
                $this->log->write('debug', $message);
            } elseif ((error_reporting() & $level) !== 0) {
                $this->log->write('warning', "$message in $file:$line");
            }
            return true;
        });
    }

    /** The job in which a process that had this status file before died, if it did. */
    private function reportLeftover(): void
    {
        $leftover = $this->statusFile?->leftover();
        if ($leftover === null || $leftover['alive']) {
            if ($leftover !== null && $leftover['pid'] !== getmypid()) {
                $this->log->write('warning', "process $leftover[pid] writes the same status file: give each its own");
            }
            return;
        }
        foreach ($leftover['jobs'] as $job) {
            $text = "process $leftover[pid] died in job $job[handle] of function $job[function], unique $job[unique]";
            $this->log->write('error', $text, $job + ['outcome' => 'died']);
        }
        $this->facts->died = $leftover['died'] + count($leftover['jobs']);
    }

    /** @return list<string> the functions that are paused, with a log line for each change */
    private function pausedNow(): array
    {
        $paused = $this->pauses->paused();
        foreach (array_diff($paused, $this->paused) as $name) {
            $this->log->write('warning', "function $name is paused");
        }
        foreach (array_diff($this->paused, $paused) as $name) {
            $this->log->write('info', "function $name is served again");
        }
        return $this->paused = $paused;
    }

    private function reasonToLeave(): ?string
    {
        return $this->signal ?? $this->limits->reached(
            $this->counters->jobs,
            now() - $this->started,
            $this->limits->rssMib > 0 ? rssMib() : 0,
        );
    }

    private function publish(StatusFile $file): void
    {
        $now = now();
        if ($now < $this->statusAt) {
            return;
        }
        $this->statusAt = $now + self::STATUS_SECONDS;
        $written = $file->write($this->facts->toArray($this->connections->states(), $this->paused));
        if (!$written && $this->statusWritten) {
            $this->log->write('warning', 'the status file cannot be written: trying again each second');
        }
        $this->statusWritten = $written;
    }
}
