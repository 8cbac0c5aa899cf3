<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// What the worker and the client share: command lines and job servers.

namespace Gearvisor;

/** The command line is wrong: the message names the option, the value and the way out. */
final class UsageError extends \RuntimeException
{
}

/** The address of a job server. */
final class Server
{
    public const PORT = 4730;

    public function __construct(public readonly string $host, public readonly int $port)
    {
    }

    /** HOST, HOST:PORT or [IPV6]:PORT */
    public static function parse(string $text): self
    {
        $syntax = '/^(?:\[(?<ipv6>[0-9A-Fa-f:.]+)\]|(?<name>[^\s:\[\]\/]+))(?::(?<port>[0-9]{1,5}))?$/D';
        if (!preg_match($syntax, $text, $part, PREG_UNMATCHED_AS_NULL)) {
            throw new UsageError("--server: '$text' is not an address: give HOST:PORT or [IPV6]:PORT");
        }
        $port = (int) ($part['port'] ?? self::PORT);
        if ($port < 1 || $port > 65535) {
            throw new UsageError("--server: port $port of '$text' is out of range: give 1 to 65535");
        }
        return new self($part['ipv6'] ?? $part['name'], $port);
    }

    public function __toString(): string
    {
        return (str_contains($this->host, ':') ? "[$this->host]" : $this->host) . ":$this->port";
    }
}

/**
 * Splits a command line; getopt() would pass over unknown options and misspellings in silence.
 *
 * @param list<string> $arguments
 * @param array<string, 'flag'|'value'|'list'> $kinds by the option's name
 * @return array{array<string, bool|string|list<string>>, list<string>} options given, operands
 */
function parseArguments(array $arguments, array $kinds): array
{
    $options = [];
    $operands = [];
    while ($arguments !== []) {
        $argument = array_shift($arguments);
        if ($argument === '--') {
            array_push($operands, ...$arguments);
            break;
        }
        if ($argument === '-' || !str_starts_with($argument, '-')) {
            $operands[] = $argument;
            continue;
        }
        [$option, $value] = explode('=', $argument, 2) + [1 => null];
        $name = $option === '-h' ? 'help' : substr($option, 2);
        $kind = $kinds[$name] ?? throw new UsageError(
            "$option: no such option: see --help, or put -- before an operand that starts with a dash"
        );
        if ($kind === 'flag') {
            $options[$name] = $value === null ? true : throw new UsageError("$option takes no value: drop '=$value'");
            continue;
        }
        $value ??= array_shift($arguments) ?? throw new UsageError("$option: a value is missing: give $option VALUE");
        if ($kind === 'list') {
            $options[$name][] = $value;
        } else {
            $options[$name] = $value;
        }
    }
    return [$options, $operands];
}

/** A decimal number between $min and $max, both included. */
function number(string $option, string $value, float $min, float $max): float
{
    if (!preg_match('/^[0-9]+(\.[0-9]+)?$/D', $value) || $value < $min || $value > $max) {
        throw new UsageError("$option: '$value' is out of range: give a number from $min to $max");
    }
    return (float) $value;
}

/** A whole number of at least 0. */
function wholeNumber(string $option, string $value): int
{
    if (!preg_match('/^[0-9]{1,15}$/D', $value)) {
        throw new UsageError("$option: '$value' is not a whole number: give 0 (no limit) or more");
    }
    return (int) $value;
}

/** @param list<string> $choices */
function choice(string $option, string $value, array $choices): string
{
    if (!in_array($value, $choices, true)) {
        throw new UsageError("$option: '$value' is unknown: give one of " . implode(', ', $choices));
    }
    return $value;
}

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

/**
 * Does a job server answer? Connecting proves nothing where a local tunnel accepts for a server that
 * is down, so the server is asked for its version, in the text protocol of the same port.
 */
function answers(Server $server, float $timeout): bool
{
    $socket = @stream_socket_client("tcp://$server", timeout: $timeout);
    if ($socket === false) {
        return false;
    }
    stream_set_timeout($socket, (int) $timeout, (int) (fmod($timeout, 1) * 1e6));
    $line = @fwrite($socket, "version\r\n") ? fgets($socket, 128) : false;
    fclose($socket);
    return $line !== false;
}

/**
 * A GearmanWorker or GearmanClient without servers. libgearman adds those in GEARMAN_SERVERS to every
 * new object by itself, the ones that are down too, and whatever --server says.
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
