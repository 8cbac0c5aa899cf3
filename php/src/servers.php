<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// Job servers, and connections to them.

namespace Gearvisor;

/**
 * The servers given as options, else those of GEARVISOR_SERVERS, else the one on this host.
 *
 * @param list<string> $given each may be a comma-separated list
 * @return array<string, Server> by name, without duplicates
 */
function servers(array $given, string $environment): array
{
    $texts = explode(',', implode(',', $given ?: [$environment]));
    $texts = array_filter(array_map('trim', $texts), static fn (string $text): bool => $text !== '');
    $servers = [];
    foreach ($texts ?: ['127.0.0.1:' . Server::PORT] as $text) {
        $server = Server::parse($text);
        $servers[(string) $server] = $server;
    }
    return $servers;
}

/** Whether a job server answers at that address: PeerCheck reports why it does not. */
function answers(Server $server, float $timeout): bool
{
    return PeerCheck::problem($server, $timeout) === null;
}

/**
 * A GearmanWorker or GearmanClient without servers. libgearman adds those in GEARMAN_SERVERS to every
 * new object by itself, including those that are down, and regardless of --server.
 *
 * @template T of object
 * @param class-string<T> $class
 * @return T
 */
function withoutServers(string $class): object
{
    $servers = getenv('GEARMAN_SERVERS');
    putenv('GEARMAN_SERVERS');
    try {
        return new $class();
    } finally {
        if ($servers !== false) {
            putenv("GEARMAN_SERVERS=$servers");
        }
    }
}

/** Seconds to wait before try number $attempt + 1: up to 0.25, 0.5, 1, ... 5, of which a random part. */
function backoff(int $attempt, float $random): float
{
    return min(5.0, 0.25 * 2 ** min($attempt, 10)) * (0.5 + 0.5 * $random);
}

/** @return array<int, string> the identities of the sockets this process holds, by descriptor */
function openSockets(): array
{
    $links = [];
    foreach (array_filter(@scandir('/proc/self/fd') ?: [], is_numeric(...)) as $descriptor) {
        $links[(int) $descriptor] = (string) @readlink("/proc/self/fd/$descriptor");
    }
    return array_filter($links, static fn (string $link): bool => str_starts_with($link, 'socket:'));
}
