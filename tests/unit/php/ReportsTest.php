<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor\Tests;

use Gearvisor\Counters;
use Gearvisor\Log;
use Gearvisor\StatusFile;
use Gearvisor\UsageError;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

use function Gearvisor\described;
use function Gearvisor\escaped;
use function Gearvisor\jsonLine;
use function Gearvisor\textLine;

require_once __DIR__ . '/../../../php/autoload.php';

final class ReportsTest extends TestCase
{
    private const TIME = 1769860800.5;

    public function testTextLine(): void
    {
        self::assertSame(
            '2026-01-31T12:00:00+0000 INFO a\r\nb\x00c',
            textLine(self::TIME, 'info', "a\r\nb\0c"),
        );
    }

    /** @dataProvider strangersTexts */
    #[DataProvider('strangersTexts')]
    public function testEscaped(string $text, string $shown): void
    {
        self::assertSame($shown, escaped($text));
    }

    /** @return array<string, array{string, string}> */
    public static function strangersTexts(): array
    {
        return [
            'letters of any language' => [
                "Gr\u{fc}\u{df}e \u{4f60}\u{1f600} \\n \"",
                "Gr\u{fc}\u{df}e \u{4f60}\u{1f600} \\n \"",
            ],
            'what clears a terminal' => ["\e[2J\x07", '\x1b[2J\x07'],
            'the same in one character' => ["\u{9b}2J", '\x9b2J'],
            'lines' => ["a\nb\r\tc\u{2028}d\u{85}", 'a\nb\r\tc\u2028d\x85'],
            'delete' => ["a\x7f", 'a\x7f'],
            'text from right to left' => ["a\u{202e}b\u{2066}", 'a\u202eb\u2066'],
            'beyond 16 bits' => ["\u{e0001}", '\U000e0001'],
            'a blank that looks like one' => ["a b\u{a0}", 'a b\xa0'],
            'not UTF-8' => ["\xff\x9b2J \xc3", '\xff\x9b2J \xc3'],
            'a surrogate' => ["\xed\xa0\x80", '\xed\xa0\x80'],
            'nothing' => ['', ''],
        ];
    }

    public function testDescribed(): void
    {
        self::assertSame('RuntimeException: no', described(new \RuntimeException('no')));
        self::assertSame(UsageError::class . ': x', described(new UsageError('x')));
        self::assertSame('LogicException', described(new \LogicException()));
        self::assertSame('Exception@anonymous: x', described(new class ('x') extends \Exception {
        }));
    }

    public function testJsonLine(): void
    {
        $line = jsonLine(self::TIME, 'error', "a\nb \xff", ['worker' => 'w/1', 'seconds' => 2.0]);
        self::assertSame('{"time":"2026-01-31T12:00:00.500Z","level":"error","message":"a\nb \ufffd",'
            . '"worker":"w/1","seconds":2.0}', $line);
    }

    /** @dataProvider formats */
    #[DataProvider('formats')]
    public function testFormat(string $format, string $start, string $end): void
    {
        $line = (new Log('info', $format, 'w'))->line(self::TIME, 'warning', 'm', ['handle' => 'H:1']);
        self::assertStringStartsWith($start, $line);
        self::assertStringEndsWith($end, $line);
    }

    /** @return list<array{string, string, string}> */
    public static function formats(): array
    {
        return [
            ['text', '2026-01-31T12:00:00+0000 WARNING', ' m'],
            ['json', '{"time":"2026', '"message":"m","worker":"w","handle":"H:1"}'],
        ];
    }

    public function testLevels(): void
    {
        $log = new Log('warning', 'text', 'w');
        self::assertSame([false, false, true, true], array_map($log->shows(...), array_keys(Log::LEVELS)));
    }

    public function testCounters(): void
    {
        $counters = new Counters(['a', 'b']);
        $counters->add('a', 'done', 0.25);
        $counters->add('a', 'failed', 1.0000004, 0.5);
        $counters->add('b', 'done', 0.5, 0.125);
        self::assertSame(3, $counters->jobs);
        $waits = static fn (int $count, float $seconds, float $max, float $last): array =>
            ['count' => $count, 'seconds' => $seconds, 'max' => $max, 'last' => $last];
        $expected = [
            'done' => 2, 'failed' => 1, 'seconds' => 1.75, 'waits' => $waits(2, 0.625, 0.5, 0.125),
            'functions' => (object) [
                'a' => ['done' => 1, 'failed' => 1, 'seconds' => 1.25, 'waits' => $waits(1, 0.5, 0.5, 0.5)],
                'b' => ['done' => 1, 'failed' => 0, 'seconds' => 0.5, 'waits' => $waits(1, 0.125, 0.125, 0.125)],
            ],
        ];
        self::assertEquals($expected, $counters->toArray());
        self::assertSame('{}', json_encode((new Counters([]))->toArray()['functions']));
    }

    public function testStatusFile(): void
    {
        $path = sys_get_temp_dir() . '/status-' . bin2hex(random_bytes(8));
        $file = new StatusFile($path);
        $file->check();
        self::assertSame([], glob("$path*"), 'a check leaves nothing behind');
        self::assertTrue($file->write(['done' => 1]));
        $content = (string) file_get_contents($path);
        self::assertSame(['job' => null, 'done' => 1], json_decode($content, true));
        $file->startJob('f', 'H:1', "u\xff", 1.5, null);
        self::assertSame(strlen($content), filesize($path), 'the file keeps its size');
        self::assertSame([
            'job' => ['function' => 'f', 'handle' => 'H:1', 'unique' => "u\u{fffd}", 'since' => 1.5, 'wait' => null],
            'done' => 1,
        ], json_decode((string) file_get_contents($path), true));
        $file->endJob();
        self::assertSame($content, file_get_contents($path));
        self::assertSame([$path], glob("$path*"));
        self::assertSame(0640, fileperms($path) & 0777);
        $file->remove();
        self::assertSame([], glob("$path*"));
        self::assertFalse((new StatusFile("$path/no/such"))->write([]));
    }

    /** @dataProvider unwritable */
    #[DataProvider('unwritable')]
    public function testUnwritable(string $path): void
    {
        $this->expectException(UsageError::class);
        $this->expectExceptionMessage("--status-file: '$path' cannot be written");
        (new StatusFile($path))->check();
    }

    /** @return list<array{string}> */
    public static function unwritable(): array
    {
        return [[''], ['/nowhere/status'], [sys_get_temp_dir()]];
    }
}
