<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

require_once __DIR__ . '/lib.php';

const CLIENT_HELP = <<<'TEXT'
    usage: php client.php [options] FUNCTION DATA
           php client.php [options] FUNCTION - <FILE

    Submits a job and writes its result to stdout as it is; - reads the data from stdin.

      --server HOST:PORT   a job server; may be repeated: the first that answers gets the
                           job (default: the comma-separated list in GEARVISOR_SERVERS, else
                           127.0.0.1:4730)
      --background         do not wait for the result: write the job's handle and leave
      --priority LEVEL     high, normal (default) or low
      --unique ID          jobs of one function with the same ID are run once
      --timeout SECONDS    give up after that time (default: 0, wait without end); the job
                           stays with the server
      --help               this text

    Exit codes: 0 done (or queued), 1 the job failed, 2 wrong usage, 3 no server answered
    or the connection was lost, 4 timeout.

    TEXT;

const DONE = 0;
const FAILED = 1;
const USAGE = 2;
const NO_SERVER = 3;
const TIMED_OUT = 4;

/** What is asked for on the command line. */
final class Request
{
    /** @param array<string, Server> $servers */
    public function __construct(
        public readonly array $servers,
        public readonly string $function,
        public readonly string $data,
        public readonly bool $background,
        public readonly string $priority,
        public readonly ?string $unique,
        public readonly float $timeout,
    ) {
    }

    /** The method of GearmanClient that submits it, such as addTaskHighBackground. */
    public function method(): string
    {
        $priority = ['high' => 'High', 'normal' => '', 'low' => 'Low'][$this->priority];
        return "addTask$priority" . ($this->background ? 'Background' : '');
    }
}

/** @param list<string> $arguments */
function requestFrom(array $arguments): ?Request
{
    [$options, $operands] = parseArguments($arguments, [
        'server' => 'list', 'background' => 'flag', 'priority' => 'value', 'unique' => 'value',
        'timeout' => 'value', 'help' => 'flag',
    ]);
    if (isset($options['help'])) {
        return null;
    }
    if (!extension_loaded('gearman')) {
        throw new UsageError('the PHP extension gearman is not loaded: install the package php-gearman');
    }
    if (count($operands) < 1 || count($operands) > 2 || $operands[0] === '') {
        throw new UsageError('one FUNCTION and its DATA are needed (quote data with blanks): see --help');
    }
    $unique = $options['unique'] ?? null;
    if ($unique !== null && ($unique === '' || strlen($unique) > 63)) {
        throw new UsageError("--unique: '$unique' does not fit: give 1 to 63 bytes");
    }
    $servers = servers($options['server'] ?? [], (string) getenv('GEARVISOR_SERVERS'));
    $priority = choice('--priority', $options['priority'] ?? 'normal', ['high', 'normal', 'low']);
    $timeout = number('--timeout', $options['timeout'] ?? '0', 0, 1e6);
    $data = $operands[1] ?? '';
    $data = $data === '-' ? (string) stream_get_contents(STDIN) : $data;
    if ($data === '') {
        throw new UsageError('DATA is empty, which the PHP extension cannot submit: send a value such as {} or null');
    }
    return new Request($servers, $operands[0], $data, isset($options['background']), $priority, $unique, $timeout);
}

/** @return array{int, string} exit code and message */
function submit(Request $request): array
{
    $start = hrtime(true);
    $left = static fn (): float => $request->timeout - (hrtime(true) - $start) / 1e9;
    foreach ($request->servers as $server) {
        if (answers($server, $request->timeout > 0 ? min(1.0, $request->timeout) : 1.0)) {
            return submitTo($server, $request, $left);
        }
    }
    $names = implode(', ', array_keys($request->servers));
    return [NO_SERVER, "no answer from $names: start gearmand there, or name others with --server"];
}

/**
 * @param callable(): float $left seconds
 * @return array{int, string}
 */
function submitTo(Server $server, Request $request, callable $left): array
{
    $client = withoutServers(\GearmanClient::class);
    // The extension's timeout begins anew with each packet, ours does not.
    $limit = static function () use ($client, $request, $left): void {
        $client->setTimeout($request->timeout > 0 ? max(1, (int) ($left() * 1000)) : -1);
    };
    $limit();
    try {
        $client->addServer($server->host, $server->port);
    } catch (\GearmanException $error) {
        return [NO_SERVER, "$server: {$error->getMessage()}: is it a job server? Name others with --server"];
    }
    $outcome = null;
    setCallbacks($client, $request, $limit, $outcome);
    $unique = $request->unique === null ? [] : [null, $request->unique];
    if (@$client->{$request->method()}($request->function, $request->data, ...$unique) === false) {
        return [FAILED, "$server: $request->function was not submitted: {$client->error()}"];
    }
    @$client->runTasks();
    return $outcome ?? explain($client->returnCode(), (string) $client->error(), $server, $request);
}

/** @param ?array{int, string} $outcome set when the final answer arrives */
function setCallbacks(\GearmanClient $client, Request $request, callable $limit, ?array &$outcome): void
{
    $client->setCreatedCallback(static function (\GearmanTask $task) use ($request, &$outcome): int {
        if ($request->background) {
            fwrite(STDOUT, $task->jobHandle() . "\n");
            $outcome = [DONE, ''];
        }
        return GEARMAN_SUCCESS;
    });
    $client->setDataCallback(static function (\GearmanTask $task) use ($limit): int {
        fwrite(STDOUT, (string) $task->data());
        $limit();
        return GEARMAN_SUCCESS;
    });
    $client->setWarningCallback(static function (\GearmanTask $task) use ($limit): int {
        fwrite(STDERR, 'client.php: warning: ' . $task->data() . "\n");
        $limit();
        return GEARMAN_SUCCESS;
    });
    $client->setStatusCallback(static function () use ($limit): int {
        $limit();
        return GEARMAN_SUCCESS;
    });
    $client->setCompleteCallback(static function (\GearmanTask $task) use (&$outcome): int {
        fwrite(STDOUT, (string) $task->data());
        $outcome = [DONE, ''];
        return GEARMAN_SUCCESS;
    });
    $client->setExceptionCallback(static function (\GearmanTask $task) use ($request, &$outcome): int {
        $outcome = [FAILED, "$request->function threw an exception: {$task->data()}"];
        return GEARMAN_SUCCESS;
    });
    $client->setFailCallback(static function () use ($request, &$outcome): int {
        $outcome ??= [FAILED, "$request->function failed: the worker's log tells why"];
        return GEARMAN_SUCCESS;
    });
}

/** @return array{int, string} */
function explain(int $code, string $error, Server $server, Request $request): array
{
    return match ($code) {
        GEARMAN_TIMEOUT => [TIMED_OUT, "--timeout: no result of $request->function within $request->timeout s: "
            . "give more time, and see whether a worker serves it (gearadmin --status); the job stays with $server"],
        GEARMAN_COULD_NOT_CONNECT, GEARMAN_LOST_CONNECTION, GEARMAN_NO_SERVERS, GEARMAN_NOT_CONNECTED,
        GEARMAN_NO_ACTIVE_FDS, GEARMAN_SUCCESS => [NO_SERVER,
            "$server: connection lost; the job may have been run: $error"],
        default => [FAILED, "$server refused $request->function: $error"],
    };
}

/** @param list<string> $arguments */
function clientMain(array $arguments): int
{
    ini_set('display_errors', 'stderr');
    try {
        $request = requestFrom($arguments);
    } catch (UsageError $error) {
        fwrite(STDERR, "client.php: {$error->getMessage()}\n");
        return USAGE;
    }
    if ($request === null) {
        fwrite(STDOUT, CLIENT_HELP);
        return DONE;
    }
    [$code, $message] = submit($request);
    if ($message !== '') {
        fwrite(STDERR, "client.php: $message\n");
    }
    return $code;
}

exit(clientMain(array_slice($argv, 1)));
