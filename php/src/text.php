<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// Texts for people, log lines and JSON.

namespace Gearvisor;

/**
 * Untrusted text, made safe to show: what is not printable is written as \n, \x1b or \u202e, as
 * Python's workers do it. In a text that is not UTF-8, every byte outside ASCII is written as \xff.
 */
function escaped(string $text): string
{
    if (preg_match('//u', $text) !== 1) {
        $byte = static fn (array $match): string => sprintf('\x%02x', ord($match[0]));
        return preg_replace_callback('/[^\x20-\x7e]/', $byte, $text);
    }
    // Other (control, format, unassigned) and separators, but for the blank.
    return preg_replace_callback('/(?! )[\p{C}\p{Z}]/u', static fn (array $match): string => code($match[0]), $text);
}

/** A character in UTF-8 as its code. */
function code(string $character): string
{
    $names = ["\n" => '\n', "\r" => '\r', "\t" => '\t'];
    $bytes = array_map(ord(...), str_split($character));
    $number = array_shift($bytes) & [1 => 0x7f, 0x1f, 0x0f, 0x07][strlen($character)];
    foreach ($bytes as $byte) {
        $number = $number << 6 | $byte & 0x3f;
    }
    return $names[$character] ?? sprintf(match (true) {
        $number < 0x100 => '\x%02x',
        $number < 0x10000 => '\u%04x',
        default => '\U%08x',
    }, $number);
}

/** A name as the name of a file, as Python's workers encode it: never hidden, never in another directory. */
function fileName(string $name): string
{
    return preg_replace('/^\./', '%2E', rawurlencode($name));
}

/** What a client and the log get of a throwable: its class and its text. */
function described(\Throwable $thrown): string
{
    // An anonymous class has the path of its file after a NUL.
    $class = strstr(get_class($thrown) . "\0", "\0", true);
    return $thrown->getMessage() === '' ? $class : "$class: {$thrown->getMessage()}";
}

/** FILE:LINE of something thrown. */
function thrownAt(\Throwable $thrown): string
{
    return $thrown instanceof JobTimeLimit ? interrupted($thrown) : "{$thrown->getFile()}:{$thrown->getLine()}";
}

/** One line whatever the message holds: payloads must not be able to forge log entries. */
function textLine(float $time, string $level, string $message): string
{
    return gmdate('Y-m-d\TH:i:sO', (int) $time) . ' ' . strtoupper($level) . ' ' . escaped($message);
}

/** @param array<string, mixed> $fields */
function jsonLine(float $time, string $level, string $message, array $fields): string
{
    $moment = gmdate('Y-m-d\TH:i:s', (int) $time) . sprintf('.%03dZ', (int) (fmod($time, 1) * 1000));
    return encoded(['time' => $moment, 'level' => $level, 'message' => $message] + $fields);
}

/**
 * JSON, in which invalid UTF-8 is replaced.
 *
 * @param array<string, mixed> $value
 */
function encoded(array $value): string
{
    return json_encode($value, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE
        | JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES);
}
