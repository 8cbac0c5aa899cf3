<?php

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

declare(strict_types=1);

namespace Gearvisor;

/**
 * A job as its function sees it: the extension's GearmanJob, which remembers what was sent, so that a
 * job gets one final answer and is counted and logged by it.
 *
 * It stands before the extension's object. The procedural functions gearman_job_*() do not see that one.
 */
final class Job extends \GearmanJob
{
    public const COMPLETED = 'completed';
    public const FAILED = 'failed';
    public const EXCEPTION = 'exception';

    private ?string $answer = null;
    private string $errorText = '';
    private bool $sentData = false;
    private bool $isOver = false;
    private int $returnCode = GEARMAN_SUCCESS;

    /** @param ?\Closure(string, string): void $beforeFailure gets the answer and its text before it is sent */
    public function __construct(private readonly \GearmanJob $job, private readonly ?\Closure $beforeFailure = null)
    {
        // Not the parent's constructor: the extension makes its own objects only.
    }

    /** The final answer that the function sent itself: one of the constants, or null. */
    public function answer(): ?string
    {
        return $this->answer;
    }

    /** The text of an exception that the function sent itself. */
    public function errorText(): string
    {
        return $this->errorText;
    }

    /** Its function has returned: nothing may be sent any more. */
    public function close(): void
    {
        $this->isOver = true;
    }

    /**
     * The result that remains to be sent, from what the function returned; null when it has sent its
     * answer itself. Then, and after sendData(), an int or bool is a return code, as in the PHP manual.
     *
     * @throws JobFailed when the function reported a failure by its return code
     * @throws \UnexpectedValueException when it returned what is not a result
     */
    public function result(mixed $returned): ?string
    {
        if ($this->answer !== null) {
            return null;
        }
        if ($this->returnCode !== GEARMAN_SUCCESS) {
            throw new JobFailed("setReturn($this->returnCode)");
        }
        if ($this->sentData && (is_int($returned) || is_bool($returned))) {
            return $returned === GEARMAN_SUCCESS || $returned === true ? '' : throw new JobFailed(
                'returned ' . var_export($returned, true)
            );
        }
        $returned ??= '';
        return is_string($returned) ? $returned : throw new \UnexpectedValueException(
            "{$this->functionName()} returned " . get_debug_type($returned)
            . ', not a string: use json_encode() or wrap the function in Gearvisor\json()'
        );
    }

    public function returnCode(): int
    {
        return (int) $this->job->returnCode();
    }

    public function setReturn(int $gearman_return_t): bool
    {
        $this->returnCode = $gearman_return_t;
        return true;
    }

    public function sendData(string $data): bool
    {
        return $this->mayStillSend() && $this->sentData = (bool) $this->job->sendData($data);
    }

    public function sendWarning(string $warning): bool
    {
        return $this->mayStillSend() && $this->job->sendWarning($warning);
    }

    public function sendStatus(int $numerator, int $denominator): bool
    {
        return $this->mayStillSend() && $this->job->sendStatus($numerator, $denominator);
    }

    public function sendComplete(string $result): bool
    {
        return $this->answers(self::COMPLETED) && $this->job->sendComplete($result);
    }

    public function sendException(string $exception): bool
    {
        return $this->answers(self::EXCEPTION, $exception) && $this->job->sendException($exception);
    }

    public function sendFail(): bool
    {
        return $this->answers(self::FAILED) && $this->job->sendFail();
    }

    public function handle(): string
    {
        return (string) $this->job->handle();
    }

    public function functionName(): string
    {
        return (string) $this->job->functionName();
    }

    public function unique(): string
    {
        return (string) $this->job->unique();
    }

    public function workload(): string
    {
        return (string) $this->job->workload();
    }

    public function workloadSize(): int
    {
        return (int) $this->job->workloadSize();
    }

    private function answers(string $answer, string $errorText = ''): bool
    {
        if (!$this->mayStillSend()) {
            return false;
        }
        if ($answer !== self::COMPLETED && $this->beforeFailure !== null) {
            ($this->beforeFailure)($answer, $errorText);
        }
        $this->answer = $answer;
        $this->errorText = $errorText;
        return true;
    }

    private function mayStillSend(): bool
    {
        if ($this->answer === null && !$this->isOver) {
            return true;
        }
        trigger_error('job ' . $this->handleOrNone() . ' has its answer: nothing more was sent', E_USER_WARNING);
        return false;
    }

    /** The extension frees its job when the worker turns to the next one. */
    private function handleOrNone(): string
    {
        return $this->isOver ? 'that is over' : $this->handle();
    }
}
