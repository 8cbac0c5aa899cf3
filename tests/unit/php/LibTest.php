<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor\Tests;

use Gearvisor\Server;
use Gearvisor\UsageError;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

use function Gearvisor\choice;
use function Gearvisor\number;
use function Gearvisor\parseArguments;
use function Gearvisor\servers;
use function Gearvisor\wholeNumber;

require_once __DIR__ . '/../../../php/autoload.php';

final class LibTest extends TestCase
{
    /**
     * @dataProvider serverLists
     * @param list<string> $given
     * @param list<string> $expected
     */
    #[DataProvider('serverLists')]
    public function testServers(array $given, string $environment, array $expected): void
    {
        self::assertSame($expected, array_keys(servers($given, $environment)));
    }

    /** @return array<string, array<mixed>> */
    public static function serverLists(): array
    {
        return [
            'none' => [[], '', ['127.0.0.1:4730']],
            'environment' => [[], 'a:1, b', ['a:1', 'b:4730']],
            'options win, once each' => [['c:3', '[::1]:5,c:3'], 'a:1', ['c:3', '[::1]:5']],
            'blanks' => [['', ' , a'], '', ['a:4730']],
        ];
    }

    public function testIpv6(): void
    {
        self::assertSame('::1', Server::parse('[::1]')->host);
        self::assertSame('[::1]:4730', (string) Server::parse('[::1]'));
    }

    public function testParseArguments(): void
    {
        $arguments = ['f', '--s', 'a', '--s=b=c', '--v=', '--x', '-', '--', '-d'];
        self::assertSame(
            [['s' => ['a', 'b=c'], 'v' => '', 'x' => true], ['f', '-', '-d']],
            parseArguments($arguments, ['s' => 'list', 'v' => 'value', 'x' => 'flag']),
        );
    }

    public function testNumbers(): void
    {
        self::assertSame(0.25, number('--splay', '0.25', 0, 1));
        self::assertSame(1.0, number('--splay', '1', 0, 1));
        self::assertSame(12, wholeNumber('--max-jobs', '12'));
        self::assertSame('b', choice('--level', 'b', ['a', 'b']));
    }

    /**
     * @dataProvider wrongValues
     * @param callable(): mixed $call
     */
    #[DataProvider('wrongValues')]
    public function testWrongValue(callable $call, string $message): void
    {
        $this->expectException(UsageError::class);
        $this->expectExceptionMessage($message);
        $call();
    }

    /** @return array<string, array<mixed>> */
    public static function wrongValues(): array
    {
        return [
            'no number' => [static fn () => number('--splay', 'x', 0, 1), "--splay: 'x' is out of range"],
            'too much' => [static fn () => number('--splay', '1.1', 0, 1), 'give a number from 0 to 1'],
            'exponent' => [static fn () => number('--splay', '1e-1', 0, 1), "'1e-1'"],
            'a fraction' => [static fn () => wholeNumber('--max-jobs', '1.5'), 'not a whole number'],
            'a newline' => [static fn () => wholeNumber('--max-jobs', "1\n"), 'not a whole number'],
            'no choice' => [static fn () => choice('--level', 'c', ['a', 'b']), "'c' is unknown: give one of a, b"],
            'bare IPv6' => [static fn () => Server::parse('::1'), '[IPV6]:PORT'],
            'a path' => [static fn () => Server::parse('http://a'), 'HOST:PORT'],
            'port 0' => [static fn () => Server::parse('a:0'), '1 to 65535'],
            'unknown option' => [static fn () => parseArguments(['--y'], []), '--y: no such option'],
            'value of a flag' => [static fn () => parseArguments(['--x=1'], ['x' => 'flag']), "drop '=1'"],
            'no value' => [static fn () => parseArguments(['--v'], ['v' => 'value']), 'give --v VALUE'],
        ];
    }
}
