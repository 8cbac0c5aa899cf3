<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// Command lines.

namespace Gearvisor;

// Of Gearvisor: galaxy.yml has the same.
const VERSION = '0.2.0';

/**
 * Splits a command line; getopt() would pass over unknown options and misspellings in silence.
 *
 * @param list<string> $arguments
 * @param array<string, 'flag'|'value'|'list'> $kinds by the option's name
 * @return array{array<string, bool|string|list<string>>, list<string>} options given, operands
 */
function parseArguments(array $arguments, array $kinds): array
{
    $options = [];
    $operands = [];
    while ($arguments !== []) {
        $argument = array_shift($arguments);
        if ($argument === '--') {
            array_push($operands, ...$arguments);
            break;
        }
        if ($argument === '-' || !str_starts_with($argument, '-')) {
            $operands[] = $argument;
            continue;
        }
        [$option, $value] = explode('=', $argument, 2) + [1 => null];
        $name = $option === '-h' ? 'help' : substr($option, 2);
        $kind = $kinds[$name] ?? throw new UsageError(
            "$option: no such option: see --help, or put -- before an operand that starts with a dash"
        );
        if ($kind === 'flag') {
            $options[$name] = $value === null ? true : throw new UsageError("$option takes no value: drop '=$value'");
            continue;
        }
        $value ??= array_shift($arguments) ?? throw new UsageError("$option: a value is missing: give $option VALUE");
        if ($kind === 'list') {
            $options[$name][] = $value;
        } else {
            $options[$name] = $value;
        }
    }
    return [$options, $operands];
}

/** A decimal number between $min and $max, both included. */
function number(string $option, string $value, float $min, float $max): float
{
    if (!preg_match('/^[0-9]+(\.[0-9]+)?$/D', $value) || $value < $min || $value > $max) {
        throw new UsageError("$option: '$value' is out of range: give a number from $min to $max");
    }
    return (float) $value;
}

/** A whole number of at least 0. */
function wholeNumber(string $option, string $value): int
{
    if (!preg_match('/^[0-9]{1,15}$/D', $value)) {
        throw new UsageError("$option: '$value' is not a whole number: give 0 (no limit) or more");
    }
    return (int) $value;
}

/** @param list<string> $choices */
function choice(string $option, string $value, array $choices): string
{
    if (!in_array($value, $choices, true)) {
        throw new UsageError("$option: '$value' is unknown: give one of " . implode(', ', $choices));
    }
    return $value;
}
