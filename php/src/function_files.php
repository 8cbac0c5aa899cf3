<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// The functions of a worker: how they get JSON, and the files they come from.

namespace Gearvisor;

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

/**
 * A function as the worker calls it. One whose first parameter is declared as GearmanJob, or is called
 * $job and has no type, is of the form that the PHP manual uses: it gets the job, and null where a
 * context is asked for. PHP's own functions get the payload only.
 *
 * @return \Closure(string, \GearmanJob): mixed
 */
function workerFunction(callable $function): \Closure
{
    $reflection = new \ReflectionFunction(\Closure::fromCallable($function));
    if ($reflection->isInternal()) {
        return static fn (string $data): mixed => $function($data);
    }
    $first = $reflection->getParameters()[0] ?? null;
    $type = $first?->getType();
    $takesJob = $type instanceof \ReflectionNamedType
        ? is_a($type->getName(), \GearmanJob::class, true)
        : $type === null && $first?->getName() === 'job';
    if (!$takesJob) {
        return \Closure::fromCallable($function);
    }
    return static function (string $data, \GearmanJob $job) use ($function): mixed {
        $context = null;
        return $function($job, $context);
    };
}
