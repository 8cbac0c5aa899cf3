<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Unique ids with the time in front (RFC 9562, version 7): a worker knows from one how long its job has waited. */
final class UuidV7
{
    public static function generate(): string
    {
        $hex = sprintf('%012x', (int) (microtime(true) * 1000)) . bin2hex(random_bytes(10));
        $hex[12] = '7';
        $hex[16] = dechex(8 | (hexdec($hex[16]) & 3));
        return vsprintf('%s-%s-%s-%s-%s', sscanf($hex, '%8s%4s%4s%4s%12s'));
    }

    /** When it was made, in seconds since the epoch; null when it is another kind of id. */
    public static function time(string $unique): ?float
    {
        $syntax = '/^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/Di';
        return preg_match($syntax, $unique, $part) ? hexdec($part[1] . $part[2]) / 1000 : null;
    }
}
