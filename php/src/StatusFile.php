<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/** A file that a monitor can read, replaced at once: a reader never sees half of it. */
final class StatusFile
{
    private string $fresh;

    public function __construct(private readonly string $path)
    {
        $this->fresh = "$path." . getmypid() . '.tmp';
    }

    /** Finds out whether it can be written, and leaves it alone. */
    public function check(): void
    {
        $directory = dirname($this->path);
        if ($this->path === '' || is_dir($this->path) || @file_put_contents($this->fresh, '') === false) {
            throw new UsageError("--status-file: '$this->path' cannot be written: give the path of a file in a"
                . " directory that this user may write to, not '$directory'");
        }
        unlink($this->fresh);
    }

    /** @param array<string, mixed> $status */
    public function write(array $status): bool
    {
        $text = encoded($status) . "\n";
        if (@file_put_contents($this->fresh, $text) === strlen($text) && @rename($this->fresh, $this->path)) {
            return true;
        }
        @unlink($this->fresh);
        return false;
    }

    public function remove(): void
    {
        @unlink($this->path);
    }
}
