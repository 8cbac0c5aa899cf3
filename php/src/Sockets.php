<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** The sockets of libgearman's connections, which it keeps to itself: found in /proc/self/fd. */
final class Sockets
{
    private const CAN_DO = 1;
    private const CANT_DO = 2;

    /** Seconds between two inspections, at least. */
    private const INSPECT_SECONDS = 1;

    /** @var list<string> their identities */
    private array $sockets;

    private float $inspectAt = 0.0;

    /** @param list<string> $others the sockets that this process had before */
    public function __construct(array $others)
    {
        $this->sockets = array_values(array_diff(openSockets(), $others));
    }

    /**
     * Whether all are still there, as far as it is time to look. While another server lives, libgearman
     * reports nothing of a lost connection and renews it without the client id. Only this shows it.
     */
    public function intact(): bool
    {
        if (now() < $this->inspectAt) {
            return true;
        }
        $this->inspectAt = now() + self::INSPECT_SECONDS;
        return array_diff($this->sockets, openSockets()) === [];
    }

    /**
     * Registers a function with the servers, or takes it back. libgearman would do so when it has no job
     * to do the next time; and it must know the function as long as one may come. Only to be called
     * between two jobs: to a worker that holds a job of the function, gearmand would hand it out again.
     *
     * @return bool whether all servers got it
     */
    public function announce(string $function, bool $isServed): bool
    {
        $packet = "\0REQ" . pack('NN', $isServed ? self::CAN_DO : self::CANT_DO, strlen($function)) . $function;
        $reached = 0;
        foreach (array_keys(array_intersect(openSockets(), $this->sockets)) as $descriptor) {
            $stream = @fopen("php://fd/$descriptor", 'w');
            $reached += (int) ($stream !== false && @fwrite($stream, $packet) === strlen($packet));
        }
        return $reached === count($this->sockets);
    }
}
