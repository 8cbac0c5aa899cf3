<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

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
