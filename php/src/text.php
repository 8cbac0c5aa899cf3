<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// Texts for people, log lines and JSON.

namespace Gearvisor;

/**
 * A stranger's text as a person may see it: on one line, without what steers a terminal. Control
 * characters and those that change the direction of writing are written as in JSON; in a text that is
 * not UTF-8, every byte outside ASCII is written as \xNN.
 */
function escaped(string $text): string
{
    if (preg_match('//u', $text) !== 1) {
        $byte = static fn (array $match): string => sprintf('\x%02x', ord($match[0]));
        return preg_replace_callback('/[^\x20-\x7e]/', $byte, $text);
    }
    $hidden = '/[\p{Cc}\x{200e}\x{200f}\x{2028}-\x{202e}\x{2066}-\x{2069}]/u';
    return preg_replace_callback($hidden, static fn (array $match): string =>
        $match[0] === "\x7f" ? '\u007f' : trim(json_encode($match[0], JSON_THROW_ON_ERROR), '"'), $text);
}

/** What a client and a log are told of something thrown: its class and its text. */
function described(\Throwable $thrown): string
{
    // An anonymous class has the path of its file after a NUL.
    $class = strstr(get_class($thrown) . "\0", "\0", true);
    return $thrown->getMessage() === '' ? $class : "$class: {$thrown->getMessage()}";
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
 * JSON, in which bytes that are no UTF-8 are replaced.
 *
 * @param array<string, mixed> $value
 */
function encoded(array $value): string
{
    return json_encode($value, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE
        | JSON_PRESERVE_ZERO_FRACTION | JSON_UNESCAPED_SLASHES);
}
