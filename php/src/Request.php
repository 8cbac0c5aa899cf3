<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** A job to be submitted. */
final class Request
{
    /** By name: what the methods of GearmanClient call it. */
    public const PRIORITIES = ['high' => 'High', 'normal' => '', 'low' => 'Low'];

    /** Bytes of a unique id, at most: the protocol's 64 include a NUL. A longer one is cut by the server. */
    private const UNIQUE_BYTES = 63;

    /** Bytes of a function's name, at most: what libgearman takes. */
    private const FUNCTION_BYTES = 512;

    /**
     * @param array<string, Server> $servers by name: the first that answers gets the job
     * @param float $timeout seconds, 0 for none
     * @throws UsageError for what cannot be submitted
     */
    public function __construct(
        public readonly array $servers,
        public readonly string $function,
        public readonly string $data,
        public readonly bool $background,
        public readonly string $priority,
        public readonly string $unique,
        public readonly float $timeout,
    ) {
        $bytes = strlen($function);
        if ($function === '' || $bytes > self::FUNCTION_BYTES || str_contains($function, "\0")) {
            throw new UsageError("FUNCTION: a name of $bytes bytes does not fit: give 1 to " . self::FUNCTION_BYTES
                . ' bytes without NUL');
        }
        $bytes = strlen($unique);
        if ($unique === '' || $bytes > self::UNIQUE_BYTES || str_contains($unique, "\0")) {
            throw new UsageError("--unique: '$unique' of $bytes bytes does not fit: give 1 to " . self::UNIQUE_BYTES
                . ' bytes without NUL, of a SHA-256 in hexadecimal digits the first 63');
        }
        if ($data === '') {
            throw new UsageError(
                'DATA is empty, which the PHP extension cannot submit: send a value such as {} or null'
            );
        }
    }

    /** The method of GearmanClient that submits it, such as addTaskHighBackground. */
    public function method(): string
    {
        return 'addTask' . self::PRIORITIES[$this->priority] . ($this->background ? 'Background' : '');
    }
}
