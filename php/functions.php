<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// The functions of a worker: what they may throw, how they get JSON, and the files they come from.

namespace Gearvisor;

require_once __DIR__ . '/lib.php';

/** Thrown by a worker's function: the client is told that the job failed, without an exception. */
final class JobFailed extends \RuntimeException
{
}

/** Thrown in a function whose time is over. */
final class JobTimeLimit extends \RuntimeException
{
}

/**
 * A function that takes and returns JSON, from one that takes and returns values:
 * objects come as arrays, and whatever json_encode() takes goes back.
 *
 * @param callable(mixed, \GearmanJob): mixed $function
 * @return \Closure(string, \GearmanJob): string
 */
function json(callable $function): \Closure
{
    return static function (string $data, ?\GearmanJob $job = null) use ($function): string {
        try {
            $value = json_decode($data, true, 512, JSON_THROW_ON_ERROR);
        } catch (\JsonException $error) {
            throw new \UnexpectedValueException("the payload is not JSON: {$error->getMessage()}");
        }
        return json_encode($function($value, $job), JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION);
    };
}

/**
 * The functions of files, each of which returns an array of name => function, or one function to be
 * served under the file's name. Of a directory, those of its *.php files.
 *
 * @param list<string> $paths
 * @return array<string, callable>
 */
function loadFunctions(array $paths): array
{
    $functions = [];
    foreach (array_merge(...array_map(filesAt(...), $paths)) as $file) {
        foreach (loadFile($file) as $name => $function) {
            if (!is_string($name) || $name === '' || !is_callable($function)) {
                throw new UsageError("--functions: '$file': entry '$name' is not of the form 'name' => function");
            }
            if (isset($functions[$name])) {
                throw new UsageError("--functions: '$file': '$name' is defined already: rename one of the two");
            }
            $functions[$name] = $function;
        }
    }
    return $functions;
}

/** @return list<string> */
function filesAt(string $path): array
{
    if (!is_dir($path)) {
        return [$path];
    }
    $files = array_filter(glob(addcslashes($path, '*?[]{}\\') . '/*.php') ?: [], is_file(...));
    return array_values($files) ?: throw new UsageError(
        "--functions: the directory '$path' has no *.php file: give one that has, or the path of a file"
    );
}

/**
 * In a function of its own: the file must not see or change the variables of the caller.
 *
 * @return array<mixed>
 */
function loadFile(string $file): array
{
    $path = realpath($file);
    if ($path === false || !is_readable($path) || is_dir($path)) {
        throw new UsageError("--functions: '$file' cannot be read: give the path of a PHP file");
    }
    try {
        $found = require $path;
    } catch (\Throwable $error) {
        throw new UsageError(
            "--functions: '$file' cannot be loaded: {$error->getMessage()} in {$error->getFile()}:{$error->getLine()}"
        );
    }
    if ($found instanceof \Closure) {
        return [basename($path, '.php') => $found];
    }
    return is_array($found) && $found !== [] ? $found : throw new UsageError(
        "--functions: '$file' returns no array or function: end it with return ['name' => function];"
    );
}
