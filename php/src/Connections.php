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

    /** @var ?list<string|int> names of the functions that $gearman knows, once it was given any */
    private ?array $registered = null;

    /** @var list<string|int> those that the servers know of */
    private array $announced = [];

    private ?Sockets $sockets = null;
    private int $attempt = 0;
    private float $retryAt = 0.0;
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

    /**
     * Serves one job, or waits for one for a second at most.
     *
     * @param list<string|int> $paused functions that are not to be served
     */
    public function serve(array $paused = []): void
    {
        if ($this->gearman !== null) {
            $this->announce($this->gearman, array_values(array_diff($this->functions, $paused)));
        }
        if ($this->gearman === null) {
            $this->pause($this->retryAt - now());
            return;
        }
        if ($this->registered === []) {
            // Without a function to serve, work() is an error.
            $this->pause(1.0);
        } else {
            $this->gearman->work();
        }
        $waited = $this->registered === [] || $this->gearman->returnCode() === GEARMAN_TIMEOUT;
        if ($this->registered !== [] && !in_array($this->gearman->returnCode(), self::SOUND, true)) {
            $this->lose((string) $this->gearman->error());
        } elseif ($this->sockets?->intact() === false) {
            $this->lose('closed by the server');
        } elseif ($waited && !$this->pinged($this->gearman)) {
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
        // What a peer sent instead of an answer may differ each time.
        $kind = strstr("$problem, ", ', ', true);
        if (($this->connected[$name] ?? null) === $connected && ($this->problems[$name] ?? '') === $kind) {
            return;
        }
        $connected
            ? $this->log->write('info', "connected to $name")
            : $this->log->write('warning', "$problem: trying again every few seconds");
        $this->connected[$name] = $connected;
        $this->problems[$name] = $kind;
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
        $this->gearman = $gearman;
        $this->registered = null;
        $this->sockets = new Sockets($others);
        return $problems;
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

    /**
     * Serves these functions, and no others.
     *
     * @param list<string|int> $functions
     */
    private function announce(\GearmanWorker $gearman, array $functions): void
    {
        if ($this->registered === null) {
            foreach ($functions as $name) {
                // No timeout: the server would hand the job out again instead of failing it.
                $gearman->addFunction((string) $name, fn (\GearmanJob $job): ?string =>
                    ($this->run)((string) $name, $job));
            }
            $this->registered = $this->announced = $functions;
        }
        $new = array_diff($functions, $this->announced);
        if (array_diff($new, $this->registered) !== []) {
            // libgearman would register it when it has no job to do the next time.
            $this->gearman = null;
            $this->retryAt = 0.0;
            return;
        }
        foreach ([...$new, ...array_diff($this->announced, $functions)] as $name) {
            if (!$this->sockets?->announce((string) $name, in_array($name, $functions, true))) {
                $this->lose("$name could not be announced");
                return;
            }
        }
        $this->announced = $functions;
    }

    /** Waits, at most a second; a signal ends it sooner. */
    private function pause(float $seconds): void
    {
        usleep((int) ceil(min(1.0, max(0.0, $seconds)) * 1e6));
    }
}
