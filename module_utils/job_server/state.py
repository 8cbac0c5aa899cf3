# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's job server as a run finds it, and how a running one may be ended."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from ..failure import GearvisorError, Refused
from ..gearvisor.errors import GearmanError
from ..keeper import choice
from . import drain, options, package_version, running, service
from .restart import as_json, decide, jobs_text


class Request(NamedTuple):
    """The requested job server; the names are the module's options."""

    settings: options.Settings
    state: str = "present"
    version: str = None
    restart: str = "auto"
    drain_timeout: int = 300
    service_manager: str = "auto"
    ready_timeout: int = 30


class State:
    """What a run of the module finds. *keeper*: what keeps gearmand running, see keeper/service.py."""

    def __init__(self, request, host, keeper=None):
        self.request = request
        self.host = host
        self.warnings = []
        self.keeper = keeper or choice.choose(
            service.service(request.settings, host),
            request.service_manager,
            host.run,
            host.check_mode,
        )
        self.installed = package_version.installed(host)
        self.current = running.inspect(host, self.keeper.process())

    def decide(self, queue_after):
        """Return the Decision on the running server; *queue_after* is the queue that then is used."""
        current, queue = self.current, self.current.started.queue
        kept = queue.survives_restart and queue.same_jobs(queue_after)
        decision = decide(
            self.request.restart,
            current.jobs,
            kept,
            queue.accepts_delayed_jobs,
            current.unclosable,
            current.problem,
        )
        if decision.lost and queue.survives_restart:
            self.warnings.append(
                f"The jobs lost to the new queue stay in the old one ({queue.path or queue.type})"
            )
        interrupted = sum(status.running for status in (current.jobs or {}).values())
        if kept and interrupted and decision.how == "restart":
            self.warnings.append(
                f"{interrupted} job{'' if interrupted == 1 else 's'} ran when gearmand had to end: those in "
                "the background run again, and the clients of others have to submit them again"
            )
        if decision.how == "restart" and current.jobs is None:
            self.warnings.append(
                "gearmand did not answer before it was ended, so what it held is not known"
            )
        return decision

    @contextlib.contextmanager
    def closed(self, decision, unchanged):
        """For the block that ends the server, close it to jobs and wait for those it has, if so decided.

        *unchanged* ends the message of a drain that takes too long. Raises GearvisorError.
        """
        if decision is None or decision.how != "drain":
            yield
            return
        seconds = self.request.drain_timeout
        limits = running.kept_limits(self.host)
        current = self.current
        try:
            with drain.drained(self.host, current.process, current.admin, seconds, limits):
                yield
        except drain.Drains as error:
            raise Refused(
                "drain_timeout",
                seconds,
                f"seconds have passed, and gearmand still has {jobs_text(error.left)}",
                f"It takes new jobs again. {unchanged}. See with gearman_info whether workers serve these "
                "functions, and run this again with more time, or with restart: force",
                left=as_json(error.left),
            ) from None
        except GearmanError as error:
            raise GearvisorError(
                f"restart: {self.request.restart!r} could not close gearmand to new jobs: {error}. "
                f"{unchanged}. Run this again, or use force"
            ) from error


def ending(verb, decision):
    """Return what is done to a running server, as a sentence."""
    if decision.how == "drain":
        return f"{verb} gearmand once its jobs are done"
    lost = f", losing {jobs_text(decision.lost)}" if decision.lost else ""
    return f"{verb} gearmand{lost}"
