<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Unique ids with the time in front (RFC 9562, version 7): a worker knows from one how long its job has waited. */
final class UuidV7
{
    /** Seconds that a client's clock may be ahead of this host's. */
    private const SKEW = 300.0;

    public static function generate(): string
    {
        $hex = sprintf('%012x', (int) (microtime(true) * 1000)) . bin2hex(random_bytes(10));
        $hex[12] = '7';
        $hex[16] = dechex(8 | (hexdec($hex[16]) & 3));
        return vsprintf('%s-%s-%s-%s-%s', sscanf($hex, '%8s%4s%4s%4s%12s'));
    }

    /**
     * When the id was made, in seconds since the epoch; null when it does not show it. Never after
     * $now: a client whose clock is a little ahead gives $now, one far ahead is not believed.
     */
    public static function madeAt(string $unique, float $now): ?float
    {
        $syntax = '/^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/D';
        if (!preg_match($syntax, $unique, $part)) {
            return null;
        }
        $made = hexdec($part[1] . $part[2]) / 1000;
        return $made > $now + self::SKEW ? null : min($made, $now);
    }
}
