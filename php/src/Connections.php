<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * The worker's connections, which are libgearman's. It is given servers that answer only: it would try
 * the others again and again without a pause.
 */
final class Connections
{
    /** A signal is seen only between two polls, and a job with a start time is found only by polling. */
    private const POLL_MS = 1000;

    /** Seconds between two inspections of the sockets, at least. */
    private const INSPECT_SECONDS = 1;

    /** A server that hangs, or a host that went away without a word, blocks the others for so long. */
    private const PING_SECONDS = 5;

    /** What work() reports when the connections are sound. */
    private const SOUND = [
        GEARMAN_SUCCESS, GEARMAN_IO_WAIT, GEARMAN_TIMEOUT, GEARMAN_NO_JOBS,
        GEARMAN_WORK_FAIL, GEARMAN_WORK_EXCEPTION, GEARMAN_WORK_ERROR,
    ];

    private ?\GearmanWorker $gearman = null;

    /** @var array<string, bool> by server: connected, or known not to answer */
    private array $connected = [];

    /** @var array<string, string> by server: what was wrong when it was last tried */
    private array $problems = [];

    /** @var list<string> the sockets of $gearman */
    private array $sockets = [];

    private int $attempt = 0;
    private float $retryAt = 0.0;
    private float $inspectAt = 0.0;
    private float $pingAt = 0.0;

    /**
     * @param array<string, Server> $servers by name
     * @param list<string|int> $functions names, of which PHP makes an int where it can
     * @param \Closure(string, \GearmanJob): ?string $run runs a job of a function
     */
    public function __construct(
        private readonly array $servers,
        private readonly array $functions,
        private readonly \Closure $run,
        private readonly string $clientId,
        private readonly Log $log,
    ) {
    }

    /** @return array<string, bool> by server: whether it is connected */
    public function states(): array
    {
        return array_map(fn (Server $server): bool => $this->connected[(string) $server] ?? false, $this->servers);
    }

    /**
     * Connects to servers that are not connected, when the next try is due.
     *
     * @param callable(): bool $stop whether to give up early
     */
    public function renew(callable $stop): void
    {
        if (now() < $this->retryAt) {
            return;
        }
        // Jobs of the servers that are connected should not wait long for one that is not.
        $timeout = $this->gearman === null ? 1.0 : 0.25;
        $missing = array_filter($this->servers, fn (string $name): bool =>
            $this->gearman === null || !$this->connected[$name], ARRAY_FILTER_USE_KEY);
        $problems = array_map(static fn (Server $server): ?string =>
            $stop() ? "no answer from $server" : PeerCheck::problem($server, $timeout, $stop), $missing);
        if ($stop()) {
            return;
        }
        $problems = array_filter($problems, is_string(...));
        if (count($problems) < count($missing)) {
            $problems += $this->open(array_diff_key($this->servers, $problems));
        }
        foreach (array_keys($this->servers) as $name) {
            $this->note($name, $problems[$name] ?? null);
        }
        $this->retryAt = $problems === [] ? INF : $this->nextTry();
    }

    /** Serves one job, or waits for one for a second at most. */
    public function serve(): void
    {
        if ($this->gearman === null) {
            $this->pause();
            return;
        }
        $this->gearman->work();
        if (!in_array($this->gearman->returnCode(), self::SOUND, true)) {
            $this->lose((string) $this->gearman->error());
        } elseif (!$this->socketsIntact()) {
            $this->lose('closed by the server');
        } elseif ($this->gearman->returnCode() === GEARMAN_TIMEOUT && !$this->pinged($this->gearman)) {
            $this->lose('no answer to a ping');
        } elseif ($this->retryAt === INF) {
            $this->attempt = 0;
        }
    }

    public function close(): void
    {
        $this->gearman = null;
    }

    /** One log line when a server's state changes, none for the tries between. */
    private function note(string $name, ?string $problem): void
    {
        $connected = $problem === null;
        if (($this->connected[$name] ?? null) === $connected && ($this->problems[$name] ?? '') === (string) $problem) {
            return;
        }
        $connected
            ? $this->log->write('info', "connected to $name")
            : $this->log->write('warning', "$problem: trying again every few seconds");
        $this->connected[$name] = $connected;
        $this->problems[$name] = (string) $problem;
    }

    /**
     * Makes all connections again; libgearman cannot add one to those it has.
     *
     * @param array<string, Server> $servers
     * @return array<string, string> what was wrong with those that could not be reached
     */
    private function open(array $servers): array
    {
        $problems = [];
        $this->gearman = null;
        $others = openSockets();
        $gearman = withoutServers(\GearmanWorker::class);
        $gearman->setTimeout(self::POLL_MS);
        foreach ($servers as $name => $server) {
            try {
                $gearman->addServer($server->host, $server->port);
            } catch (\GearmanException) {
                // It is added all the same; the next try makes a new object.
                $problems[$name] = "no answer from $server";
            }
        }
        $gearman->setId($this->clientId);
        foreach ($this->functions as $name) {
            // No timeout: the server would hand the job out again instead of failing it.
            $gearman->addFunction((string) $name, fn (\GearmanJob $job): ?string => ($this->run)((string) $name, $job));
        }
        $this->gearman = $gearman;
        $this->sockets = array_values(array_diff(openSockets(), $others));
        return $problems;
    }

    /**
     * While another server lives, work() reports nothing of a lost connection and renews it without
     * the client id. Only the sockets show it.
     */
    private function socketsIntact(): bool
    {
        if (now() < $this->inspectAt) {
            return true;
        }
        $this->inspectAt = now() + self::INSPECT_SECONDS;
        return array_diff($this->sockets, openSockets()) === [];
    }

    /** libgearman waits for the reply of one server before it turns to the next. */
    private function pinged(\GearmanWorker $gearman): bool
    {
        if (now() < $this->pingAt) {
            return true;
        }
        $this->pingAt = now() + self::PING_SECONDS;
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
        return now() + backoff($this->attempt++, random());
    }

    /** Waits for the next try, at most a second; a signal ends it sooner. */
    private function pause(): void
    {
        $seconds = min(1.0, max(0.0, $this->retryAt - now()));
        usleep((int) ceil($seconds * 1e6));
    }
}
