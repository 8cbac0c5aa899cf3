<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** The jobs of one function, or of all: done, failed, the seconds they took together, and how long they waited. */
final class Tally
{
    public int $done = 0;
    public int $failed = 0;
    public float $seconds = 0.0;
    private int $waits = 0;
    private float $waited = 0.0;
    private float $longest = 0.0;
    private float $last = 0.0;

    /** @param ?float $wait seconds, null when it is unknown */
    public function add(bool $failed, float $seconds, ?float $wait): void
    {
        $failed ? $this->failed++ : $this->done++;
        $this->seconds += $seconds;
        if ($wait !== null) {
            $this->waits++;
            $this->waited += $wait;
            $this->longest = max($this->longest, $wait);
            $this->last = $wait;
        }
    }

    /** @return array<string, mixed> as the status file has it */
    public function toArray(): array
    {
        return [
            'done' => $this->done,
            'failed' => $this->failed,
            'seconds' => round($this->seconds, 6),
            'waits' => [
                'count' => $this->waits,
                'seconds' => round($this->waited, 6),
                'max' => round($this->longest, 6),
                'last' => round($this->last, 6),
            ],
        ];
    }
}
