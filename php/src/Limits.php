<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** Limits after which a worker exits, to be started again; 0 means no limit. */
final class Limits
{
    public function __construct(
        public readonly int $jobs = 0,
        public readonly float $seconds = 0,
        public readonly float $rssMib = 0,
    ) {
    }

    /** The same limits, lowered by a share of at most $splay, so that a fleet does not restart at once. */
    public function splayed(float $splay, float $random): self
    {
        $share = 1 - $splay * $random;
        return new self((int) ceil($this->jobs * $share), $this->seconds * $share, $this->rssMib * $share);
    }

    /** The limit that is reached, in words, or null. */
    public function reached(int $jobs, float $seconds, float $rssMib): ?string
    {
        return match (true) {
            $this->jobs > 0 && $jobs >= $this->jobs => "max-jobs $this->jobs",
            $this->seconds > 0 && $seconds >= $this->seconds => sprintf('max-seconds %.0f', $this->seconds),
            // Without a job behind it a worker has not grown: leaving would only start it over and over.
            $this->rssMib > 0 && $jobs > 0 && $rssMib >= $this->rssMib => sprintf('max-rss %.0f MiB', $this->rssMib),
            default => null,
        };
    }
}
