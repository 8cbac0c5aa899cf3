<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Submits a job to the first server that answers, and waits for its result. */
final class Submission
{
    private float $end;

    /** @var ?array{int, string} exit code and message, once the final answer came */
    private ?array $outcome = null;

    public function __construct(private readonly Request $request)
    {
        $this->end = $request->timeout > 0 ? now() + $request->timeout : INF;
    }

    /** @return array{int, string} exit code and message */
    public function run(): array
    {
        $timeout = $this->request->timeout > 0 ? min(1.0, $this->request->timeout) : 1.0;
        $problems = [];
        foreach ($this->request->servers as $name => $server) {
            $problem = PeerCheck::problem($server, $timeout);
            if ($problem === null) {
                return $this->submitTo($server);
            }
            $problems[$name] = $problem;
        }
        return [ClientCommand::NO_SERVER, implode('; ', $problems)
            . ': start gearmand there, or name others with --server'];
    }

    /** @return array{int, string} */
    private function submitTo(Server $server): array
    {
        $request = $this->request;
        $client = withoutServers(\GearmanClient::class);
        $this->limit($client);
        try {
            $client->addServer($server->host, $server->port);
        } catch (\GearmanException $error) {
            return [ClientCommand::NO_SERVER,
                "$server: {$error->getMessage()}: is it a job server? Name others with --server"];
        }
        $this->setCallbacks($client);
        if (@$client->{$request->method()}($request->function, $request->data, null, $request->unique) === false) {
            return [ClientCommand::FAILED, "$server: $request->function was not submitted: {$client->error()}"];
        }
        @$client->runTasks();
        return $this->outcome ?? $this->explain($client->returnCode(), (string) $client->error(), $server);
    }

    /** The extension's timeout begins again with each packet, this one does not. */
    private function limit(\GearmanClient $client): void
    {
        $client->setTimeout($this->end < INF ? max(1, (int) (($this->end - now()) * 1000)) : -1);
    }

    private function setCallbacks(\GearmanClient $client): void
    {
        // By the kind of packet: what is done with it.
        $handlers = [
            'Created' => function (\GearmanTask $task): void {
                if ($this->request->background) {
                    fwrite(STDOUT, $task->jobHandle() . "\n");
                    $this->outcome = [ClientCommand::DONE, ''];
                }
            },
            'Data' => function (\GearmanTask $task) use ($client): void {
                fwrite(STDOUT, (string) $task->data());
                $this->limit($client);
            },
            'Warning' => function (\GearmanTask $task) use ($client): void {
                fwrite(STDERR, 'client.php: warning: ' . escaped((string) $task->data()) . "\n");
                $this->limit($client);
            },
            'Status' => fn () => $this->limit($client),
            'Complete' => function (\GearmanTask $task): void {
                fwrite(STDOUT, (string) $task->data());
                $this->outcome = [ClientCommand::DONE, ''];
            },
            'Exception' => function (\GearmanTask $task): void {
                $this->outcome = [ClientCommand::FAILED,
                    "{$this->request->function} threw an exception: {$task->data()}"];
            },
            'Fail' => function (): void {
                $this->outcome ??= [ClientCommand::FAILED,
                    "{$this->request->function} failed: see the worker's log"];
            },
        ];
        foreach ($handlers as $kind => $handler) {
            $client->{"set{$kind}Callback"}(static function (\GearmanTask $task) use ($handler): int {
                $handler($task);
                return GEARMAN_SUCCESS;
            });
        }
    }

    /** @return array{int, string} */
    private function explain(int $code, string $error, Server $server): array
    {
        $request = $this->request;
        return match ($code) {
            GEARMAN_TIMEOUT => [ClientCommand::TIMED_OUT, "--timeout: no result of $request->function within"
                . " $request->timeout s: give more time, and see whether a worker serves it (gearadmin --status);"
                . " the job stays with $server"],
            GEARMAN_COULD_NOT_CONNECT, GEARMAN_LOST_CONNECTION, GEARMAN_NO_SERVERS, GEARMAN_NOT_CONNECTED,
            GEARMAN_NO_ACTIVE_FDS, GEARMAN_SUCCESS => [ClientCommand::NO_SERVER,
                "$server: connection lost; the job may have been run: $error"],
            default => [ClientCommand::FAILED, "$server refused $request->function: $error"],
        };
    }
}
