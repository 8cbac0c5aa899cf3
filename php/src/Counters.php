<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** The jobs of each function: done, failed, and the seconds they took together. */
final class Counters
{
    private const NONE = ['done' => 0, 'failed' => 0, 'seconds' => 0.0];

    public int $jobs = 0;

    /** @var array<string, array{done: int, failed: int, seconds: float}> */
    private array $functions;

    /** @param list<string> $names of the functions */
    public function __construct(array $names)
    {
        $this->functions = array_fill_keys($names, self::NONE);
    }

    /** Counts a job that is over; $outcome is done or failed. */
    public function add(string $function, string $outcome, float $seconds): void
    {
        $this->jobs++;
        $this->functions[$function][$outcome]++;
        $this->functions[$function]['seconds'] += $seconds;
    }

    /** @return array<string, mixed> as the status file has them */
    public function toArray(): array
    {
        $total = self::NONE;
        $functions = $this->functions;
        foreach ($functions as &$counts) {
            foreach ($counts as $key => $count) {
                $total[$key] += $count;
            }
            $counts['seconds'] = round($counts['seconds'], 6);
        }
        $total['seconds'] = round($total['seconds'], 6);
        return [...$total, 'functions' => $functions];
    }
}
