<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

use FFI;

/** Ends the process at a time with last words on stderr, unless called off. */
final class ForcedExit
{
    private const WORDS = 1000; // bytes at most
    private const TO_SPEAK = 0.25; // seconds

    private FFI\CData $command;
    private Timer $speak;
    private Timer $end;

    public function __construct(int $code)
    {
        // A quote becomes four bytes.
        $this->command = Timer::library()->new('char[' . (4 * self::WORDS + 100) . ']');
        $this->speak = Timer::runs($this->command);
        $this->end = Timer::exits($code);
    }

    public function in(float $seconds, string $words): void
    {
        $command = "printf '%s\\n' " . escapeshellarg(substr($words, 0, self::WORDS)) . " >&2\0";
        FFI::memcpy($this->command, $command, strlen($command));
        $this->speak->start($seconds);
        $this->end->start($seconds + self::TO_SPEAK);
    }

    public function callOff(): void
    {
        $this->speak->stop();
        $this->end->stop();
    }
}
