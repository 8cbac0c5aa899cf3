<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** The jobs of each function, and of all together. */
final class Counters
{
    public int $jobs = 0;
    private Tally $total;

    /** @var array<string, Tally> */
    private array $functions = [];

    /** @param list<string> $names of the functions */
    public function __construct(array $names)
    {
        $this->total = new Tally();
        foreach ($names as $name) {
            $this->functions[$name] = new Tally();
        }
    }

    /**
     * Counts a job that is over; $outcome is done or failed.
     *
     * @param ?float $wait seconds from its submission to its start, null when unknown
     */
    public function add(string $function, string $outcome, float $seconds, ?float $wait = null): void
    {
        $this->jobs++;
        $this->total->add($outcome !== 'done', $seconds, $wait);
        $this->functions[$function]->add($outcome !== 'done', $seconds, $wait);
    }

    /** @return array<string, mixed> as the status file has them */
    public function toArray(): array
    {
        // An object even without functions, or where their names are numbers.
        $functions = array_map(static fn (Tally $tally): array => $tally->toArray(), $this->functions);
        return [...$this->total->toArray(), 'functions' => (object) $functions];
    }
}
