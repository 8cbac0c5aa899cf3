<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * The time limits of a worker's jobs, in seconds; 0 means none. A function that is over its limit gets
 * JobTimeLimit thrown, and if it does not end then, or sits in a C call, it is ended with the process.
 */
final class Deadlines
{
    /** Seconds that a function has left once JobTimeLimit was thrown in it. */
    private const GRACE = 5;

    private float $throwAt = INF;
    private float $endAt = INF;
    private float $stopAt = INF;
    private Timer $alarm;
    private ForcedExit $forcedExit;

    /** @param \Closure(float, string): string $lastWords from the seconds until then, and the reason */
    public function __construct(
        private readonly float $jobTimeout,
        private readonly float $stopTimeout,
        int $exitCode,
        private readonly \Closure $lastWords,
    ) {
        $this->alarm = Timer::signals(SIGALRM);
        $this->forcedExit = new ForcedExit($exitCode);
    }

    public function catchAlarm(): void
    {
        // Not to be restarted: calls that can be interrupted must be.
        pcntl_signal(SIGALRM, $this->throwIfOver(...), false);
    }

    public function startJob(float $now): void
    {
        if ($this->jobTimeout > 0) {
            $this->throwAt = $now + $this->jobTimeout;
            $this->endAt = $this->throwAt + self::GRACE;
            $this->alarm->start($this->jobTimeout);
        }
        $this->limit($now);
    }

    /** The job is over. Until here JobTimeLimit may be thrown, after it no more. */
    public function endJob(): void
    {
        $this->throwAt = $this->endAt = INF;
        $this->alarm->stop();
        $this->forcedExit->callOff();
    }

    /** The worker was asked to leave, in a job or not. */
    public function stop(float $now, bool $inJob): void
    {
        if ($this->stopTimeout > 0) {
            $this->stopAt = $now + $this->stopTimeout;
            if ($inJob) {
                $this->limit($now);
            }
        }
    }

    private function limit(float $now): void
    {
        $at = min($this->endAt, $this->stopAt);
        if ($at < INF) {
            $why = $at === $this->stopAt
                ? sprintf('its stop timeout of %g s is over', $this->stopTimeout)
                : sprintf('a job is %d s past its limit of %g s', self::GRACE, $this->jobTimeout);
            $seconds = max(0.0, $at - $now);
            $this->forcedExit->in($seconds, ($this->lastWords)($seconds, $why));
        }
    }

    private function throwIfOver(): void
    {
        if (hrtime(true) / 1e9 >= $this->throwAt) {
            $this->throwAt = INF;
            throw new JobTimeLimit(sprintf('over the limit of %g s', $this->jobTimeout));
        }
    }
}
