<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor\Tests;

use Gearvisor\UsageError;
use PHPUnit\Framework\Attributes\DataProvider;
use PHPUnit\Framework\TestCase;

use function Gearvisor\json;
use function Gearvisor\loadFunctions;

require_once __DIR__ . '/../../../php/autoload.php';

final class FunctionsTest extends TestCase
{
    private string $directory;

    protected function setUp(): void
    {
        $this->directory = sys_get_temp_dir() . '/functions[' . bin2hex(random_bytes(8));
        mkdir($this->directory);
    }

    protected function tearDown(): void
    {
        array_map('unlink', glob(sys_get_temp_dir() . '/functions[[]' . substr($this->directory, -16) . '/*'));
        rmdir($this->directory);
    }

    private function file(string $name, string $code): string
    {
        file_put_contents("$this->directory/$name", "<?php $code");
        return "$this->directory/$name";
    }

    public function testMapsAndFilesOfOneFunction(): void
    {
        $this->file('reverse.php', 'return fn (string $data): string => strrev($data);');
        $this->file('two.php', 'return ["echo" => fn (string $data): string => $data, "upper" => "strtoupper"];');
        $this->file('notes.txt', 'throw new Exception("not read");');
        $map = $this->file('map.inc', 'return ["length" => fn (string $data): string => (string) strlen($data)];');
        $functions = loadFunctions([$map, $this->directory]);
        self::assertSame(['length', 'reverse', 'echo', 'upper'], array_keys($functions));
        self::assertSame('cba', $functions['reverse']('abc'));
        self::assertSame('ABC', $functions['upper']('abc'));
    }

    public function testAFileSeesNoVariablesOfTheWorker(): void
    {
        $file = $this->file('a.php', 'return ["seen" => fn () => implode(",", array_keys(get_defined_vars()))];');
        self::assertSame('', loadFunctions([$file])['seen']());
    }

    public function testSameNameTwice(): void
    {
        $this->file('a.php', 'return fn () => "";');
        $this->file('b.php', 'return ["a" => fn () => ""];');
        $this->expectException(UsageError::class);
        $this->expectExceptionMessage("b.php': 'a' is defined already");
        loadFunctions([$this->directory]);
    }

    public function testEmptyDirectory(): void
    {
        $this->expectException(UsageError::class);
        $this->expectExceptionMessage("'$this->directory' has no *.php file");
        loadFunctions([$this->directory]);
    }

    /** @dataProvider jsonJobs */
    #[DataProvider('jsonJobs')]
    public function testJson(string $payload, string $expected): void
    {
        $function = json(fn (mixed $value): mixed => is_array($value) ? ['order' => $value] : $value);
        self::assertSame($expected, $function($payload));
    }

    /** @return array<string, array{string, string}> */
    public static function jsonJobs(): array
    {
        return [
            'object' => ['{"a": [1, 2.0]}', '{"order":{"a":[1,2.0]}}'],
            'null' => ['null', 'null'],
            'text' => ['"\u00e4"', '"\u00e4"'],
        ];
    }

    public function testNoJson(): void
    {
        $this->expectException(\UnexpectedValueException::class);
        $this->expectExceptionMessage('the payload is not JSON: Syntax error');
        json('strval')('O:8:"stdClass":0:{}');
    }

    public function testAResultThatIsNoJson(): void
    {
        $this->expectException(\JsonException::class);
        json(fn (): string => "\xff")('1');
    }
}
