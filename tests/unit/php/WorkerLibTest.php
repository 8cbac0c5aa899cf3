<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor\Tests;

use Gearvisor\Limits;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

use function Gearvisor\backoff;
use function Gearvisor\openSockets;
use function Gearvisor\rssMib;

require_once __DIR__ . '/../../../php/autoload.php';

final class WorkerLibTest extends TestCase
{
    /** @dataProvider limits */
    #[DataProvider('limits')]
    public function testLimits(Limits $limits, int $jobs, float $seconds, float $rss, ?string $reached): void
    {
        self::assertSame($reached, $limits->reached($jobs, $seconds, $rss));
    }

    /** @return array<string, array<mixed>> */
    public static function limits(): array
    {
        return [
            'none' => [new Limits(), 10 ** 6, 1e6, 1e6, null],
            'below' => [new Limits(jobs: 3), 2, 0, 0, null],
            'jobs' => [new Limits(jobs: 3), 3, 0, 0, 'max-jobs 3'],
            'seconds' => [new Limits(seconds: 9), 0, 9.1, 0, 'max-seconds 9'],
            'memory' => [new Limits(rssMib: 64), 1, 0, 65, 'max-rss 64 MiB'],
            'memory before the first job' => [new Limits(rssMib: 64), 0, 0, 65, null],
        ];
    }

    public function testSplay(): void
    {
        self::assertEquals(new Limits(750, 75, 7.5), (new Limits(1000, 100, 10))->splayed(0.5, 0.5));
        self::assertEquals(new Limits(3), (new Limits(3))->splayed(0.1, 1), 'a limit never becomes none');
        self::assertEquals(new Limits(), (new Limits())->splayed(1, 1));
    }

    public function testBackoff(): void
    {
        $tries = [0, 1, 2, 3, 4, 5, 999];
        self::assertSame([0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0], array_map(fn ($n) => backoff($n, 1), $tries));
        self::assertSame(2.5, backoff(9, 0));
    }

    public function testOwnProcess(): void
    {
        self::assertGreaterThan(5, rssMib());
        self::assertLessThan(500, rssMib());
        $pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        $with = openSockets();
        unset($pair);
        self::assertCount(2, array_diff($with, openSockets()));
    }
}
