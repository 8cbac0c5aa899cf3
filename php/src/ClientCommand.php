<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** client.php: its command line. */
final class ClientCommand
{
    public const DONE = 0;
    public const FAILED = 1;
    public const USAGE = 2;
    public const NO_SERVER = 3;
    public const TIMED_OUT = 4;

    private const HELP = <<<'TEXT'
        usage: php client.php [options] FUNCTION DATA
               php client.php [options] FUNCTION - <FILE

        Submits a job and writes its result to stdout as it is; - reads the data from stdin.

          --server HOST:PORT   a job server; may be repeated: the first that answers gets the
                               job (default: the comma-separated list in GEARVISOR_SERVERS, else
                               127.0.0.1:4730)
          --background         do not wait for the result: write the job's handle and leave
          --priority LEVEL     high, normal (default) or low
          --unique ID          jobs of one function with the same ID are run once; at most 63
                               bytes (default: a new UUID with the time in front)
          --timeout SECONDS    give up after that time (default: 0, wait without end); the job
                               stays with the server
          --help               this text
          --version            the version of Gearvisor

        Exit codes: 0 done (or queued), 1 the job failed, 2 wrong usage, 3 no server answered
        or the connection was lost, 4 timeout.

        TEXT;

    /**
     * @param list<string> $arguments
     * @return int the exit code
     */
    public static function main(array $arguments): int
    {
        ini_set('display_errors', 'stderr');
        try {
            [$options, $operands] = parseArguments($arguments, [
                'server' => 'list', 'background' => 'flag', 'priority' => 'value', 'unique' => 'value',
                'timeout' => 'value', 'help' => 'flag', 'version' => 'flag',
            ]);
            if (isset($options['help']) || isset($options['version'])) {
                fwrite(STDOUT, isset($options['help']) ? self::HELP : 'client.php ' . VERSION . "\n");
                return self::DONE;
            }
            [$code, $message] = (new Submission(self::request($options, $operands)))->run();
        } catch (UsageError $error) {
            [$code, $message] = [self::USAGE, $error->getMessage()];
        }
        if ($message !== '') {
            fwrite(STDERR, 'client.php: ' . escaped($message) . "\n");
        }
        return $code;
    }

    /**
     * @param array<string, mixed> $options
     * @param list<string> $operands
     */
    private static function request(array $options, array $operands): Request
    {
        if (!extension_loaded('gearman')) {
            throw new UsageError('the PHP extension gearman is not loaded: install the package php-gearman');
        }
        if (count($operands) < 1 || count($operands) > 2) {
            throw new UsageError('one FUNCTION and its DATA are needed (quote data with blanks): see --help');
        }
        $servers = servers($options['server'] ?? [], (string) getenv('GEARVISOR_SERVERS'));
        $data = $operands[1] ?? '';
        return new Request(
            $servers,
            $operands[0],
            $data === '-' ? (string) stream_get_contents(STDIN) : $data,
            isset($options['background']),
            choice('--priority', $options['priority'] ?? 'normal', array_keys(Request::PRIORITIES)),
            $options['unique'] ?? UuidV7::generate(),
            number('--timeout', $options['timeout'] ?? '0', 0, 1e6),
        );
    }
}
