# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, as exceptions. All of them are a GearmanError."""

from __future__ import annotations

from collections.abc import Iterable


class GearmanError(Exception):
    """Base of every error this package raises on purpose, but for ValueError on bad arguments."""


class ProtocolError(GearmanError):
    """The peer sent bytes that are not the Gearman protocol; its connection is of no more use."""


class ServerUnavailable(GearmanError):
    """A job server cannot be reached, went away or does not answer.

    `server` is its "host:port" and `reason` the cause in words; the message also names the
    `others` that were tried after it.
    """

    def __init__(self, server: str, reason: str, others: Iterable[ServerUnavailable] = ()) -> None:
        super().__init__("; ".join([f"{server}: {reason}", *map(str, others)]))
        self.server = server
        self.reason = reason

    @classmethod
    def of_all(cls, failures: list[ServerUnavailable]) -> ServerUnavailable:
        """Make one error of those of all job servers that were tried."""
        first, *others = failures
        return cls(first.server, first.reason, others)


class AdminError(GearmanError):
    """The job server refused an admin command; the message is its reply."""


class SubmitError(GearmanError):
    """The job server refused a job; the message is its own code and text.

    `code` is for example QUEUE_ERROR: the queue of this function is full or its storage failed.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code


class JobFailed(GearmanError):
    """The job failed and the worker gave no reason (WORK_FAIL).

    A worker's function raises it to fail its job; the text then goes to the worker's log only,
    since WORK_FAIL carries none.
    """


class JobException(GearmanError):
    """The function raised an exception in the worker (WORK_EXCEPTION); the message is its text."""


class JobTimeLimit(GearmanError):
    """Raised inside a worker's function that runs longer than the worker's job_timeout.

    A function may catch it to tidy up, but must then raise it again or return soon.
    """


class JobTimeout(GearmanError):
    """The job was handed to a job server, but its answer did not come in time.

    It may still run. A job server that cannot be reached in time is ServerUnavailable instead.
    """
