<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** The functions that are paused on this host: a file in a directory for each, named after it. */
final class Pauses
{
    public const DIRECTORY = '/var/lib/gearvisor/paused';

    /** Seconds between two looks at the directory. */
    private const LOOK_SECONDS = 1;

    private float $lookAt = 0.0;

    /** @var list<string> */
    private array $paused = [];

    /** @param list<string> $functions of this worker */
    public function __construct(
        private readonly array $functions,
        private readonly string $directory = self::DIRECTORY,
    ) {
    }

    /** @return list<string> the functions of this worker that are paused */
    public function paused(): array
    {
        if (now() >= $this->lookAt) {
            $this->lookAt = now() + self::LOOK_SECONDS;
            clearstatcache();
            $isPaused = fn (string $name): bool => file_exists("$this->directory/" . fileName($name));
            $exists = $this->directory !== '' && is_dir($this->directory);
            $this->paused = $exists ? array_values(array_filter($this->functions, $isPaused)) : [];
        }
        return $this->paused;
    }
}
