<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// The worker as a library; worker.php is its command line.

namespace Gearvisor;

require_once __DIR__ . '/functions.php';
require_once __DIR__ . '/lib.php';
require_once __DIR__ . '/reports.php';

/** Limits after which a worker leaves, to be started afresh; 0 means no limit. */
final class Limits
{
    public function __construct(
        public readonly int $jobs = 0,
        public readonly float $seconds = 0,
        public readonly float $rssMib = 0,
    ) {
    }

    /** The same limits, lowered by a share of at most $splay, so that a fleet does not restart at once. */
    public function splayed(float $splay, float $random): self
    {
        $share = 1 - $splay * $random;
        return new self((int) ceil($this->jobs * $share), $this->seconds * $share, $this->rssMib * $share);
    }

    /** The limit that is reached, in words, or null. */
    public function reached(int $jobs, float $seconds, float $rssMib): ?string
    {
        return match (true) {
            $this->jobs > 0 && $jobs >= $this->jobs => "max-jobs $this->jobs",
            $this->seconds > 0 && $seconds >= $this->seconds => sprintf('max-seconds %.0f', $this->seconds),
            // Without a job behind it a worker has not grown: leaving would only start it over and over.
            $this->rssMib > 0 && $jobs > 0 && $rssMib >= $this->rssMib => sprintf('max-rss %.0f MiB', $this->rssMib),
            default => null,
        };
    }
}

/** Serves functions on all servers that answer, one job at a time. */
final class Worker
{
    /** EX_TEMPFAIL of sysexits.h: left in the middle of a job. */
    public const LEFT_JOB = 75;

    /** A signal is seen only between two polls, and a job with a start time is found only by polling. */
    private const POLL_MS = 1000;

    /** Seconds between two looks at the sockets, and two writes of the status file, at least. */
    private const INSPECT_SECONDS = 1;
    private const STATUS_SECONDS = 1;

    /** A server that hangs, or a host that went away without a word, holds up the others for so long. */
    private const PING_SECONDS = 5;

    /** What work() reports when the connections are sound. */
    private const SOUND = [
        GEARMAN_SUCCESS, GEARMAN_IO_WAIT, GEARMAN_TIMEOUT, GEARMAN_NO_JOBS,
        GEARMAN_WORK_FAIL, GEARMAN_WORK_EXCEPTION, GEARMAN_WORK_ERROR,
    ];

    private ?\GearmanWorker $gearman = null;

    /** @var array<string, bool> by server: connected, or known not to answer */
    private array $connected = [];

    /** @var list<string> the sockets of $gearman */
    private array $sockets = [];

    private int $attempt = 0;
    private float $retryAt = 0.0;
    private float $inspectAt = 0.0;
    private float $pingAt = 0.0;
    private float $statusAt = 0.0;
    private bool $statusWritten = true;
    private float $started;
    private float $startedAt;
    private int $pid;
    private Counters $counters;
    private ?string $signal = null;

    /** The running job. */
    private ?\GearmanJob $job = null;

    private ?Deadlines $deadlines = null;

    /**
     * @param array<string, Server> $servers by name
     * @param array<string, callable(string, \GearmanJob): ?string> $functions
     * @param float $jobTimeout seconds for a job, and
     * @param float $stopTimeout for the running one once the worker was asked to leave; 0 means no limit
     */
    public function __construct(
        private readonly array $servers,
        private readonly array $functions,
        private readonly string $clientId,
        private readonly Limits $limits,
        private readonly Log $log,
        float $jobTimeout = 0,
        float $stopTimeout = 0,
        private readonly ?StatusFile $statusFile = null,
    ) {
        $this->counters = new Counters(array_keys($functions));
        $this->started = self::now();
        $this->startedAt = microtime(true);
        $this->pid = getmypid();
        if ($jobTimeout > 0 || $stopTimeout > 0) {
            $this->deadlines = $this->makeDeadlines($jobTimeout, $stopTimeout);
        }
    }

    private function makeDeadlines(float $jobTimeout, float $stopTimeout): Deadlines
    {
        require_once __DIR__ . '/timers.php';
        $lastWords = fn (float $seconds, string $why): string =>
            $this->log->line(microtime(true) + $seconds, 'error', $this->leaving($why), $this->jobFields());
        try {
            return new Deadlines($jobTimeout, $stopTimeout, self::LEFT_JOB, $lastWords);
        } catch (\Throwable $error) {
            throw new UsageError('--job-timeout and --stop-timeout need the PHP extension FFI, and ffi.enable not to'
                . " be false: install and enable it, or leave them out ({$error->getMessage()})");
        }
    }

    public function run(): void
    {
        $this->catchSignals();
        $this->catchWarnings();
        $this->log->write('info', "worker $this->clientId starts: " . implode(', ', array_keys($this->functions)));
        while (($reason = $this->reasonToLeave()) === null) {
            if (self::now() >= $this->retryAt) {
                $this->connect();
            }
            if ($this->statusFile !== null) {
                $this->publish($this->statusFile);
            }
            if ($this->gearman !== null) {
                $this->serve($this->gearman);
            } else {
                $this->pause();
            }
        }
        $this->gearman = null;
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
        $this->deadlines?->stop(self::now(), $this->job !== null);
    }

    /** Ends the process without an answer for the running job: its server hands it to another worker. */
    private function leaveAtOnce(string $why): never
    {
        $this->log->write($this->job === null ? 'info' : 'error', $this->leaving($why), $this->jobFields());
        if ($this->job === null) {
            $this->statusFile?->remove();
        }
        self::become($this->job === null ? 0 : self::LEFT_JOB);
    }

    private function leaving(string $why): string
    {
        $job = $this->jobFields();
        return "worker $this->clientId leaves at once: $why, jobs {$this->counters->jobs}"
            . ($job === [] ? '' : "; job $job[handle] of $job[function] is left to another worker");
    }

    /** @return array<string, string> what a log line tells of the running job */
    private function jobFields(): array
    {
        return $this->job === null
            ? []
            : ['function' => $this->job->functionName(), 'handle' => $this->job->handle()];
    }

    /** Not exit(): while that unwinds the stack, the extension answers the job with an exception. */
    private static function become(int $code): never
    {
        pcntl_exec('/bin/sh', ['-c', "exit $code"]);
        posix_kill(getmypid(), SIGKILL);
        exit($code);
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

    private function reasonToLeave(): ?string
    {
        return $this->signal ?? $this->limits->reached(
            $this->counters->jobs,
            self::now() - $this->started,
            $this->limits->rssMib > 0 ? rssMib() : 0,
        );
    }

    private function publish(StatusFile $file): void
    {
        $now = self::now();
        if ($now < $this->statusAt) {
            return;
        }
        $this->statusAt = $now + self::STATUS_SECONDS;
        $connected = array_map(fn (string $name): bool => $this->connected[$name] ?? false, array_keys($this->servers));
        $written = $file->write([
            'client_id' => $this->clientId,
            'pid' => $this->pid,
            'started' => round($this->startedAt, 3),
            'updated' => round(microtime(true), 3),
            ...$this->counters->toArray(),
            'servers' => array_combine(array_keys($this->servers), $connected),
        ]);
        if (!$written && $this->statusWritten) {
            $this->log->write('warning', 'the status file cannot be written: trying again each second');
        }
        $this->statusWritten = $written;
    }

    /**
     * Connects to the servers that answer. libgearman is not given the others: it would try them
     * again and again without a pause.
     */
    private function connect(): void
    {
        // Jobs of the servers that are connected should not wait long for one that is not.
        $timeout = $this->gearman === null ? 1.0 : 0.25;
        $missing = array_filter($this->servers, fn (string $name): bool =>
            $this->gearman === null || !$this->connected[$name], ARRAY_FILTER_USE_KEY);
        $answering = array_filter($missing, static fn (Server $server): bool => answers($server, $timeout));
        $unreached = $answering === [] ? [] : $this->open(array_diff_key($this->servers, $missing) + $answering);
        foreach ($this->servers as $name => $server) {
            $connected = isset($answering[$name]) || !isset($missing[$name]);
            $this->note($name, $connected && !in_array($name, $unreached, true));
        }
        $this->retryAt = in_array(false, $this->connected, true) ? $this->nextTry() : INF;
    }

    /** One log line when a server's state changes, none for the tries between. */
    private function note(string $name, bool $connected): void
    {
        if (($this->connected[$name] ?? null) !== $connected) {
            $connected
                ? $this->log->write('info', "connected to $name")
                : $this->log->write('warning', "no answer from $name: trying again every few seconds");
        }
        $this->connected[$name] = $connected;
    }

    /**
     * Builds a new GearmanWorker: an existing one that reconnects does not send its client id again.
     *
     * @param array<string, Server> $servers
     * @return list<string> the servers that were lost on the way
     */
    private function open(array $servers): array
    {
        $this->gearman = null;
        $unreached = [];
        $others = openSockets();
        $gearman = withoutServers(\GearmanWorker::class);
        $gearman->setTimeout(self::POLL_MS);
        foreach ($servers as $name => $server) {
            try {
                $gearman->addServer($server->host, $server->port);
            } catch (\GearmanException) {
                // It is added all the same; the next try builds anew.
                $unreached[] = $name;
            }
        }
        $gearman->setId($this->clientId);
        foreach ($this->functions as $name => $function) {
            // No timeout: the server would hand the job out again instead of failing it.
            $gearman->addFunction((string) $name, fn (\GearmanJob $job): ?string =>
                $this->perform((string) $name, $function, $job));
        }
        $this->gearman = $gearman;
        $this->sockets = array_values(array_diff(openSockets(), $others));
        return $unreached;
    }

    private function serve(\GearmanWorker $gearman): void
    {
        $gearman->work();
        $this->job = null;
        if (!in_array($gearman->returnCode(), self::SOUND, true)) {
            $this->lose((string) $gearman->error());
        } elseif (!$this->socketsIntact()) {
            $this->lose('closed by the server');
        } elseif ($gearman->returnCode() === GEARMAN_TIMEOUT && !$this->pinged($gearman)) {
            $this->lose('no answer to a ping');
        } elseif ($this->retryAt === INF) {
            $this->attempt = 0;
        }
    }

    /**
     * While another server lives, work() reports nothing of a lost connection and renews it without
     * the client id. It shows in the sockets alone.
     */
    private function socketsIntact(): bool
    {
        if (self::now() < $this->inspectAt) {
            return true;
        }
        $this->inspectAt = self::now() + self::INSPECT_SECONDS;
        return array_diff($this->sockets, openSockets()) === [];
    }

    /** libgearman waits for the reply of one server before it turns to the next. */
    private function pinged(\GearmanWorker $gearman): bool
    {
        if (self::now() < $this->pingAt) {
            return true;
        }
        $this->pingAt = self::now() + self::PING_SECONDS;
        return $gearman->ping('gearvisor');
    }

    private function lose(string $why): void
    {
        $this->log->write('warning', "connection lost: $why");
        $this->gearman = null;
        // Which one was lost is not known; those known not to answer have been logged already.
        $this->connected = array_filter($this->connected, static fn (bool $connected): bool => !$connected);
        $this->retryAt = $this->nextTry();
    }

    private function nextTry(): float
    {
        return self::now() + backoff($this->attempt++, self::random());
    }

    /** Waits for the next try, at most a second; a signal ends it sooner. */
    private function pause(): void
    {
        $seconds = min(1.0, max(0.0, $this->retryAt - self::now()));
        usleep((int) ceil($seconds * 1e6));
    }

    /** Runs one job and sends exactly one final answer: libgearman sends the returned result. */
    private function perform(string $name, callable $function, \GearmanJob $job): ?string
    {
        $this->job = $job;
        $start = self::now();
        $this->deadlines?->startJob($start);
        $result = $failure = null;
        try {
            try {
                $result = $function((string) $job->workload(), $job) ?? '';
            } finally {
                $this->deadlines?->endJob();
            }
            if (!is_string($result)) {
                throw new \UnexpectedValueException("$name returned " . get_debug_type($result)
                    . ', not a string: use json_encode() or wrap the function in Gearvisor\json()');
            }
        } catch (\Throwable $failure) {
            // Left to the extension, it would end the worker.
            $result = null;
            // The alarm may have come before it took effect above.
            $this->deadlines?->endJob();
        }
        if (getmypid() !== $this->pid) {
            // A process that the function forked: the job, and the connection, are its parent's.
            self::become($failure === null ? 0 : 1);
        }
        $seconds = self::now() - $start;
        $this->counters->add($name, $failure === null ? 'done' : 'failed', $seconds);
        if ($failure !== null) {
            $this->fail($job, $seconds, $failure);
        } elseif ($this->log->shows('debug')) {
            $this->report('debug', $seconds, 'done', 'done');
        }
        return $result;
    }

    private function fail(\GearmanJob $job, float $seconds, \Throwable $failure): void
    {
        $message = $failure->getMessage();
        if ($failure instanceof JobFailed) {
            $this->report('warning', $seconds, 'failed', "failed: $message");
            $job->sendFail();
            return;
        }
        $outcome = $failure instanceof JobTimeLimit ? 'timeout' : 'exception';
        $where = $outcome === 'timeout' ? interrupted($failure) : "{$failure->getFile()}:{$failure->getLine()}";
        $text = "raised " . get_class($failure) . ": $message in $where";
        $this->report('error', $seconds, $outcome, $text, ['where' => $where]);
        $job->sendException($message ?: get_class($failure));
    }

    /** @param array<string, string> $more */
    private function report(string $level, float $seconds, string $outcome, string $text, array $more = []): void
    {
        $job = $this->jobFields();
        $this->log->write($level, "job $job[handle] of $job[function] $text", [
            ...$job, 'seconds' => round($seconds, 6), 'outcome' => $outcome, ...$more,
        ]);
    }

    private static function now(): float
    {
        return hrtime(true) / 1e9;
    }

    public static function random(): float
    {
        return mt_rand() / mt_getrandmax();
    }
}

/** Seconds to wait before try number $attempt + 1: up to 0.25, 0.5, 1, ... 5, of which a random part. */
function backoff(int $attempt, float $random): float
{
    return min(5.0, 0.25 * 2 ** min($attempt, 10)) * (0.5 + 0.5 * $random);
}

/** FILE:LINE that a signal handler interrupted by throwing, whatever called it: PHP, or an error handler of ours. */
function interrupted(\Throwable $thrown): string
{
    foreach ($thrown->getTrace() as $call) {
        if (isset($call['file']) && $call['file'] !== __FILE__) {
            return "$call[file]:$call[line]";
        }
    }
    return "{$thrown->getFile()}:{$thrown->getLine()}";
}

/** @return list<string> the identities of the sockets this process holds */
function openSockets(): array
{
    $links = array_map(
        static fn (string $fd): string => (string) @readlink("/proc/self/fd/$fd"),
        @scandir('/proc/self/fd') ?: [],
    );
    return array_values(array_filter($links, static fn (string $link): bool => str_starts_with($link, 'socket:')));
}

/** Resident memory of this process: memory_get_usage() does not see what C libraries allocate. */
function rssMib(): float
{
    preg_match('/^VmRSS:\s+(\d+)/m', (string) @file_get_contents('/proc/self/status'), $match);
    return (int) ($match[1] ?? 0) / 1024;
}
