<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

// Time limits that hold whatever PHP is doing. PHP runs its signal handlers between two steps of PHP
// code, so not while it is inside one long C call such as a read without a timeout. A timer of the C
// library can call a C function from a thread of its own, at any time: see timer_create(2),
// SIGEV_THREAD. The extension FFI makes it reachable; it comes with PHP on Debian and is enabled for
// the command line there.

namespace Gearvisor;

use FFI;

/** A timer of the C library, for one shot at a time. */
final class Timer
{
    // The layouts are those of Linux with the GNU C library on 64-bit processors. The C functions
    // called take an int or a pointer, and return an int or never: both pass in one register.
    private const DECLARATIONS = <<<'C'
        typedef union { long number; char *text; } value;
        typedef struct {
            value argument; int signal; int notify; int (*function)(value); void *attributes; char unused[32];
        } event;
        typedef struct { long interval_seconds, interval_nanoseconds, seconds, nanoseconds; } setting;
        int timer_create(int clock, event *event, void **timer);
        int timer_settime(void *timer, int flags, setting *new, setting *old);
        int _exit(value status);
        int system(value command);
        C;
    private const CLOCK_MONOTONIC = 1;
    private const SIGEV_SIGNAL = 0;
    private const SIGEV_THREAD = 2;

    private static ?FFI $library = null;

    private FFI\CData $timer;
    private FFI\CData $setting;

    private function __construct(FFI\CData $event)
    {
        $this->setting = self::library()->new('setting');
        $this->timer = self::library()->new('void *');
        if (self::library()->timer_create(self::CLOCK_MONOTONIC, FFI::addr($event), FFI::addr($this->timer)) !== 0) {
            throw new \RuntimeException('timer_create failed: see RLIMIT_SIGPENDING in getrlimit(2)');
        }
    }

    /** Sends the process a signal. */
    public static function signals(int $signal): self
    {
        $event = self::library()->new('event');
        $event->notify = self::SIGEV_SIGNAL;
        $event->signal = $signal;
        return new self($event);
    }

    /** Ends the process with that exit code. */
    public static function exits(int $code): self
    {
        $event = self::library()->new('event');
        $event->notify = self::SIGEV_THREAD;
        $event->function = self::library()->_exit;
        $event->argument->number = $code;
        return new self($event);
    }

    /** Runs the shell command that $text holds then. */
    public static function runs(FFI\CData $text): self
    {
        $event = self::library()->new('event');
        $event->notify = self::SIGEV_THREAD;
        $event->function = self::library()->system;
        $event->argument->text = FFI::addr($text[0]);
        return new self($event);
    }

    public static function library(): FFI
    {
        return self::$library ??= FFI::cdef(self::DECLARATIONS, 'libc.so.6');
    }

    public function start(float $seconds): void
    {
        // None at all would stop it.
        $nanoseconds = max(1, (int) ($seconds * 1e9));
        $this->setting->seconds = intdiv($nanoseconds, 1_000_000_000);
        $this->setting->nanoseconds = $nanoseconds % 1_000_000_000;
        self::library()->timer_settime($this->timer, 0, FFI::addr($this->setting), null);
    }

    public function stop(): void
    {
        $this->setting->seconds = $this->setting->nanoseconds = 0;
        self::library()->timer_settime($this->timer, 0, FFI::addr($this->setting), null);
    }
}
