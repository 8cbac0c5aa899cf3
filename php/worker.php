<?php
declare(strict_types=1);

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

namespace Gearvisor;

require_once __DIR__ . '/lib.php';

const WORKER_HELP = <<<'TEXT'
    usage: php worker.php [options]

    Serves Gearman functions, one job at a time, until it is asked to leave.

      --server HOST:PORT   a job server; may be repeated (default: the comma-separated
                           list in GEARVISOR_SERVERS, else 127.0.0.1:4730)
      --functions FILE     a PHP file that returns an array of name => function; may be
                           repeated (default: reference.php beside this file)
      --client-id ID       the name shown by the servers (default: HOST:PID)
      --max-jobs N         leave after N jobs
      --max-seconds S      leave after S seconds
      --max-rss MIB        leave when the process holds MIB of memory
      --splay F            lower each limit by a random share of at most F (default: 0.1),
                           so that a fleet does not restart at once
      --log-level LEVEL    debug, info (default), warning or error
      --help               this text

    A limit of 0 means no limit. A function is called as
    function (string $data, GearmanJob $job): string and returns the result. Where it
    throws Gearvisor\JobFailed the job fails; any other exception is sent to the client.

    SIGTERM and SIGINT: finish the running job and leave; a second one: leave at once.

    Exit codes: 0 asked to leave or a limit reached; 2 wrong usage, a functions file that
    cannot be loaded, or a PHP extension missing.

    TEXT;

/** Serves functions on all servers that answer, one job at a time. */
final class Worker
{
    /** A signal is seen only between two polls, and a job with a start time is found only by polling. */
    private const POLL_MS = 1000;

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
    private float $started;
    private int $jobs = 0;
    private ?string $signal = null;

    /**
     * @param array<string, Server> $servers by name
     * @param array<string, callable(string, \GearmanJob): ?string> $functions
     */
    public function __construct(
        private readonly array $servers,
        private readonly array $functions,
        private readonly string $clientId,
        private readonly Limits $limits,
        private readonly Log $log,
    ) {
        $this->started = self::now();
    }

    public function run(): void
    {
        $this->catchSignals();
        $this->catchWarnings();
        $this->log->info("worker $this->clientId starts: " . implode(', ', array_keys($this->functions)));
        while (($reason = $this->reasonToLeave()) === null) {
            if (self::now() >= $this->retryAt) {
                $this->connect();
            }
            if ($this->gearman !== null) {
                $this->serve($this->gearman);
            } else {
                $this->pause();
            }
        }
        $this->gearman = null;
        $this->log->info("worker $this->clientId leaves: $reason, jobs $this->jobs");
    }

    private function catchSignals(): void
    {
        pcntl_async_signals(true);
        foreach (['SIGTERM' => SIGTERM, 'SIGINT' => SIGINT] as $name => $number) {
            pcntl_signal($number, function () use ($name): void {
                $this->signal = $name;
                // The kernel ends the process at the second signal, even inside a C call of a job.
                pcntl_signal(SIGTERM, SIG_DFL);
                pcntl_signal(SIGINT, SIG_DFL);
            });
        }
    }

    /** PHP warnings of functions go to the log; those of the extension only repeat its return code. */
    private function catchWarnings(): void
    {
        set_error_handler(function (int $level, string $message, string $file, int $line): bool {
            if (str_starts_with($message, 'GearmanWorker::')) {
                $this->log->debug($message);
            } elseif ((error_reporting() & $level) !== 0) {
                $this->log->warning("$message in $file:$line");
            }
            return true;
        });
    }

    private function reasonToLeave(): ?string
    {
        return $this->signal ?? $this->limits->reached(
            $this->jobs,
            self::now() - $this->started,
            $this->limits->rssMib > 0 ? rssMib() : 0,
        );
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
                ? $this->log->info("connected to $name")
                : $this->log->warning("no answer from $name: trying again every few seconds");
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
            $gearman->addFunction((string) $name, fn (\GearmanJob $job): ?string => $this->perform($function, $job));
        }
        $this->gearman = $gearman;
        $this->sockets = array_values(array_diff(openSockets(), $others));
        return $unreached;
    }

    private function serve(\GearmanWorker $gearman): void
    {
        $gearman->work();
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
        $this->inspectAt = self::now() + 1;
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
        $this->log->warning("connection lost: $why");
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
    private function perform(callable $function, \GearmanJob $job): ?string
    {
        $name = $job->functionName() . ' ' . $job->handle();
        $start = self::now();
        try {
            $result = $function((string) $job->workload(), $job) ?? '';
            if (!is_string($result)) {
                throw new \UnexpectedValueException(
                    $job->functionName() . ' returned ' . get_debug_type($result) . ', not a string: use json_encode()'
                );
            }
            $this->log->debug(sprintf('%s done in %.3f s', $name, self::now() - $start));
            return $result;
        } catch (JobFailed $failure) {
            $this->log->warning("$name failed: " . $failure->getMessage());
            $job->sendFail();
        } catch (\Throwable $error) {
            // Left to the extension, the exception would end the worker.
            $class = get_class($error);
            $this->log->error("$name: $class: {$error->getMessage()} in {$error->getFile()}:{$error->getLine()}");
            $job->sendException($error->getMessage() ?: $class);
        } finally {
            $this->jobs++;
        }
        return null;
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

/**
 * @param list<string> $files
 * @return array<string, callable>
 */
function loadFunctions(array $files): array
{
    $functions = [];
    foreach ($files as $file) {
        $found = loadFile($file);
        if (!is_array($found) || $found === []) {
            throw new UsageError("--functions: '$file' returns no array: end it with return ['name' => function];");
        }
        foreach ($found as $name => $function) {
            if (!is_string($name) || $name === '' || !is_callable($function)) {
                throw new UsageError("--functions: '$file': entry '$name' is not of the form 'name' => function");
            }
            if (isset($functions[$name])) {
                throw new UsageError("--functions: '$file': '$name' is defined already: rename one of the two");
            }
            $functions[$name] = $function;
        }
    }
    return $functions;
}

/** In a function of its own: the file must not see or change the variables of the caller. */
function loadFile(string $file): mixed
{
    $path = realpath($file);
    if ($path === false || !is_readable($path) || is_dir($path)) {
        throw new UsageError("--functions: '$file' cannot be read: give the path of a PHP file");
    }
    try {
        return require $path;
    } catch (\Throwable $error) {
        throw new UsageError(
            "--functions: '$file' cannot be loaded: {$error->getMessage()} in {$error->getFile()}:{$error->getLine()}"
        );
    }
}

/** @param list<string> $arguments */
function workerFrom(array $arguments): ?Worker
{
    [$options, $operands] = parseArguments($arguments, [
        'server' => 'list', 'functions' => 'list', 'client-id' => 'value', 'max-jobs' => 'value',
        'max-seconds' => 'value', 'max-rss' => 'value', 'splay' => 'value', 'log-level' => 'value', 'help' => 'flag',
    ]);
    if (isset($options['help'])) {
        return null;
    }
    if ($operands !== []) {
        throw new UsageError("'$operands[0]' is not an option: see --help");
    }
    foreach (['gearman' => 'php-gearman', 'pcntl' => 'php-cli'] as $extension => $package) {
        if (!extension_loaded($extension)) {
            throw new UsageError("the PHP extension $extension is not loaded: install the package $package");
        }
    }
    $limits = new Limits(
        wholeNumber('--max-jobs', $options['max-jobs'] ?? '0'),
        wholeNumber('--max-seconds', $options['max-seconds'] ?? '0'),
        wholeNumber('--max-rss', $options['max-rss'] ?? '0'),
    );
    $splay = number('--splay', $options['splay'] ?? '0.1', 0, 1);
    return new Worker(
        servers($options['server'] ?? [], (string) getenv('GEARVISOR_SERVERS')),
        loadFunctions($options['functions'] ?? [__DIR__ . '/reference.php']),
        clientId($options['client-id'] ?? gethostname() . ':' . getmypid()),
        $limits->splayed($splay, Worker::random()),
        new Log(choice('--log-level', $options['log-level'] ?? 'info', array_keys(Log::LEVELS))),
    );
}

/** @param list<string> $arguments */
function workerMain(array $arguments): int
{
    ini_set('display_errors', 'stderr');
    try {
        $worker = workerFrom($arguments);
    } catch (UsageError $error) {
        fwrite(STDERR, "worker.php: {$error->getMessage()}\n");
        return 2;
    }
    if ($worker === null) {
        fwrite(STDOUT, WORKER_HELP);
        return 0;
    }
    $worker->run();
    return 0;
}

exit(workerMain(array_slice($argv, 1)));
