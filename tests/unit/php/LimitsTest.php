<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor\Tests;

use Gearvisor\Limits;
use Gearvisor\Request;
use Gearvisor\UsageError;
use Gearvisor\WorkerCommand;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

require_once __DIR__ . '/../../../php/autoload.php';

/** The table of cases that Python's limits have to pass, too. */
final class LimitsTest extends TestCase
{
    /** @return array<string, mixed> */
    private static function cases(string $part): array
    {
        $table = json_decode((string) file_get_contents(__DIR__ . '/../limits_cases.json'), true);
        $keyed = [];
        foreach ($table[$part] as $case) {
            $keyed[json_encode($case)] = [$case];
        }
        return $keyed;
    }

    /** @return array<string, mixed> */
    public static function worker(): array
    {
        return self::cases('worker') + self::cases('splay');
    }

    /** @return array<string, mixed> */
    public static function protocol(): array
    {
        return self::cases('protocol');
    }

    /**
     * @dataProvider worker
     * @param array<string, mixed> $case
     */
    #[DataProvider('worker')]
    public function testWorker(array $case): void
    {
        $given = $case['limits'] + ['max_jobs' => 0, 'max_seconds' => 0, 'max_rss' => 0];
        $limits = (new Limits($given['max_jobs'], $given['max_seconds'], $given['max_rss']))
            ->splayed($case['splay'] ?? 0, $case['random'] ?? 0);
        $reached = $limits->reached($case['jobs'], $case['seconds'], $case['rss']);
        self::assertSame($case['reached'], $reached === null ? null : strtr(explode(' ', $reached)[0], '-', '_'));
    }

    /**
     * @dataProvider protocol
     * @param array<string, mixed> $case
     */
    #[DataProvider('protocol')]
    public function testProtocol(array $case): void
    {
        $text = str_repeat('x', $case['bytes']);
        $check = match ($case['what']) {
            'unique id' => static fn () => new Request([], 'f', 'data', false, 'normal', $text, 0),
            'function name' => static fn () => new Request([], $text, 'data', false, 'normal', 'u', 0),
            'client id' => static fn () => WorkerCommand::clientId('--client-id', $text),
        };
        if (!$case['fits']) {
            $this->expectException(UsageError::class);
            $this->expectExceptionMessage('give 1 to ' . ['unique id' => 63, 'function name' => 512,
                'client id' => 127][$case['what']]);
        }
        self::assertNotNull($check());
    }
}
