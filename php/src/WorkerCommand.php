<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** worker.php: its command line. */
final class WorkerCommand
{
    private const USAGE = 2;

    private const HELP = <<<'TEXT'
        usage: php worker.php [options]

        Serves Gearman functions, one job at a time, until it is asked to leave.

          --server HOST:PORT   a job server; may be repeated (default: the comma-separated
                               list in GEARVISOR_SERVERS, else 127.0.0.1:4730)
          --functions PATH     a PHP file that returns an array of name => function, or one
                               function to be served under the file's name; or a directory
                               of such files; may be repeated (default: reference.php beside
                               this file)
          --client-id ID       the name shown by the servers (default: GEARVISOR_WORKER#PID, or
                               HOST:PID without that variable)
          --max-jobs N         leave after N jobs
          --max-seconds S      leave after S seconds
          --max-rss MIB        leave when the process holds MIB of memory
          --splay F            lower each limit by a random share of at most F (default: 0.1),
                               so that a fleet does not restart at once
          --job-timeout S      throw Gearvisor\JobTimeLimit in a function that runs longer; if
                               it does not end in 5 more seconds the process does, and the job
                               goes to another worker
          --stop-timeout S     leave without the running job S seconds after the first SIGTERM
                               or SIGINT (default: finish it)
          --status-file PATH   keep the counters and the job in progress here as JSON; removed
                               when leaving (default: PROCESS.json in /run/gearvisor/USER, where
                               that directory exists, with GEARVISOR_WORKER=HOST/PROCESS)
          --failed-dir PATH    keep the jobs that fail in this directory (default:
                               /var/lib/gearvisor/failed/USER, where it exists)
          --failed-payload WHICH
                               yes (default) or no: whether to keep their payloads
          --paused-dir PATH    do not serve functions that files here name (default:
                               /var/lib/gearvisor/paused)
          --log-level LEVEL    debug, info (default), warning or error
          --log-format FORMAT  text (default) or json
          --log-jobs           log the start and the end of each job
          --help               this text
          --version            the version of Gearvisor

        A limit or timeout of 0 means none. A function is called as
        function (string $data, GearmanJob $job): string and returns the result. Where it
        throws Gearvisor\JobFailed the job fails; of any other exception the class and the text
        are sent to the client. It may also be of the form that the PHP manual uses:
        function (GearmanJob $job), with $job->sendComplete() or sendFail().

        An empty --status-file, --failed-dir or --paused-dir turns it off:
        docs/worker-facts.md has the formats.

        SIGTERM and SIGINT: finish the running job and leave; a second one: leave at once.

        Exit codes: 0 asked to leave or a limit reached; 2 wrong usage, a functions file that
        cannot be loaded, or a PHP extension missing; 75 left in the middle of a job, which
        its job server hands out again.

        TEXT;

    /** By name: the package of Debian that has the extension. */
    private const EXTENSIONS = ['gearman' => 'php-gearman', 'pcntl' => 'php-cli'];

    /**
     * @param list<string> $arguments
     * @return int the exit code
     */
    public static function main(array $arguments): int
    {
        ini_set('display_errors', 'stderr');
        try {
            [$options, $operands] = parseArguments($arguments, [
                'server' => 'list', 'functions' => 'list', 'client-id' => 'value', 'max-jobs' => 'value',
                'max-seconds' => 'value', 'max-rss' => 'value', 'splay' => 'value', 'job-timeout' => 'value',
                'stop-timeout' => 'value', 'status-file' => 'value', 'failed-dir' => 'value',
                'failed-payload' => 'value', 'paused-dir' => 'value', 'log-level' => 'value',
                'log-format' => 'value', 'log-jobs' => 'flag',
                'help' => 'flag', 'version' => 'flag',
            ]);
            if (isset($options['help']) || isset($options['version'])) {
                fwrite(STDOUT, isset($options['help']) ? self::HELP : 'worker.php ' . VERSION . "\n");
                return 0;
            }
            if ($operands !== []) {
                throw new UsageError("'$operands[0]' is not an option: see --help");
            }
            self::worker($options)->run();
            return 0;
        } catch (UsageError $error) {
            fwrite(STDERR, 'worker.php: ' . escaped($error->getMessage()) . "\n");
            return self::USAGE;
        }
    }

    /** @param array<string, mixed> $options */
    private static function worker(array $options): Worker
    {
        foreach (self::EXTENSIONS as $extension => $package) {
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
        $name = (string) getenv('GEARVISOR_WORKER');
        $clientId = isset($options['client-id'])
            ? self::clientId('--client-id', $options['client-id'])
            : self::clientId('GEARVISOR_WORKER', ($name === '' ? gethostname() . ':' : "$name#") . getmypid());
        $log = new Log(
            choice('--log-level', $options['log-level'] ?? 'info', array_keys(Log::LEVELS)),
            choice('--log-format', $options['log-format'] ?? 'text', Log::FORMATS),
            $clientId,
        );
        $functions = loadFunctions($options['functions'] ?? [dirname(__DIR__) . '/reference.php']);
        return new Worker(
            servers($options['server'] ?? [], (string) getenv('GEARVISOR_SERVERS')),
            $functions,
            $clientId,
            $limits->splayed($splay, random()),
            $log,
            number('--job-timeout', $options['job-timeout'] ?? '0', 0, 1e6),
            number('--stop-timeout', $options['stop-timeout'] ?? '0', 0, 1e6),
            self::statusFile($options['status-file'] ?? null, $name),
            self::failedStore($options['failed-dir'] ?? null, $options['failed-payload'] ?? 'yes'),
            isset($options['log-jobs']),
            new Pauses(array_keys($functions), $options['paused-dir'] ?? Pauses::DIRECTORY),
        );
    }

    /** One that was not asked for must not keep a worker from its jobs: it is not checked. */
    private static function statusFile(?string $given, string $worker): ?StatusFile
    {
        $path = $given ?? StatusFile::defaultPath($worker, userName()) ?? '';
        $file = $path === '' ? null : new StatusFile($path);
        if ($given !== null) {
            $file?->check();
        }
        return $file;
    }

    private static function failedStore(?string $given, string $payload): ?FailedStore
    {
        $keepPayload = choice('--failed-payload', $payload, ['yes', 'no']) === 'yes';
        $directory = $given ?? FailedStore::defaultDirectory(userName()) ?? '';
        $store = $directory === '' ? null : new FailedStore($directory, $keepPayload);
        if ($given !== null) {
            $store?->check();
        }
        return $store;
    }

    /** A client id is one word in the `workers` reply of the server. */
    public static function clientId(string $option, string $value): string
    {
        if (!preg_match('/^[^\s\x00-\x1f\x7f]{1,127}$/D', $value)) {
            throw new UsageError("$option: '$value' is not an id: give 1 to 127 characters without blanks");
        }
        return $value;
    }
}
