# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearvisor worker`: serve functions until asked to stop."""

from __future__ import annotations

import argparse
import importlib
import os
import pwd
import sys
from typing import Any

from . import failed, pause, status_file
from .command_line import (
    OK,
    UsageError,
    add_server_options,
    count,
    mebibytes,
    seconds,
    servers,
    share,
    ssl_context,
)
from .failed_store import FailedStore, default_directory
from .job_runner import SHORT_JOB
from .jobs import is_async_callable
from .logs import configure as configure_log
from .protocol import MAX_PACKET, check_client_id, check_function
from .worker import Worker, default_client_id


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the worker."""
    add_server_options(parser)
    parser.add_argument(
        "functions",
        nargs="+",
        metavar="[NAME=]MODULE[:CALLABLE]",
        help="a callable that takes a Job, under its own name or NAME; a module alone serves its"
        " FUNCTIONS map, or only NAME of it. The current directory is searched first",
    )
    parser.add_argument(
        "--client-id",
        metavar="ID",
        help="the id that `gearvisor status` shows (default: $GEARVISOR_WORKER#PID where that is"
        " set, else gearvisor-HOST-PID)",
    )
    parser.add_argument(
        "--concurrency",
        type=count,
        default=1,
        metavar="N",
        help="do up to N jobs at once; for async functions only (default 1)",
    )
    parser.add_argument(
        "--prefetch",
        type=count,
        default=1,
        metavar="N",
        help=f"while jobs take less than {1000 * SHORT_JOB:g} ms, ask for jobs over N connections,"
        " so that the next one is there when one is done; needs --job-timeout, and gearmand's"
        " --job-retries must not be 1 (default 1: no)",
    )
    limits = "; the worker then leaves with exit code 0, to be started again"
    parser.add_argument("--max-jobs", type=count, metavar="N", help="serve at most N jobs" + limits)
    parser.add_argument(
        "--max-seconds", type=seconds, metavar="S", help="serve for at most S seconds" + limits
    )
    parser.add_argument(
        "--max-rss", type=mebibytes, metavar="MIB", help="use at most MIB of memory" + limits
    )
    parser.add_argument(
        "--splay",
        type=share,
        default=0.1,
        metavar="F",
        help="lower each limit by a random share of up to F, so that a fleet does not leave at"
        " once (0 to 1, default 0.1)",
    )
    parser.add_argument(
        "--job-timeout",
        type=seconds,
        metavar="S",
        help="raise JobTimeLimit in a function that runs longer; if it does not end in 5 more"
        " seconds the process does, and the job goes to another worker",
    )
    parser.add_argument(
        "--stop-timeout",
        type=seconds,
        metavar="S",
        help="leave without the running job S seconds after the first SIGTERM or SIGINT"
        " (default: finish it)",
    )
    files = parser.add_argument_group(
        "files", "See docs/worker-facts.md. An empty name turns one of them off."
    )
    files.add_argument(
        "--status-file",
        metavar="PATH",
        help="keep the counters and the job in progress here as JSON; removed when leaving"
        f" (default: {status_file.DIRECTORY}/USER/PROCESS.json where that directory exists and"
        " GEARVISOR_WORKER names the process)",
    )
    files.add_argument(
        "--failed-dir",
        metavar="DIR",
        help="keep each job that fails here, for `gearvisor failed`"
        f" (default: {failed.DIRECTORY}/USER where it exists)",
    )
    files.add_argument(
        "--failed-payload",
        choices=("yes", "no"),
        default="yes",
        help="whether failed jobs are kept with their payload, which may be secret (default yes)",
    )
    files.add_argument(
        "--paused-dir",
        metavar="DIR",
        default=pause.DIRECTORY,
        help=f"do not serve functions that files here name (default {pause.DIRECTORY})",
    )
    parser.add_argument(
        "--max-packet",
        type=mebibytes,
        default=MAX_PACKET / 2**20,
        metavar="MIB",
        help="take no larger packet from a job server: it would have to be held in memory"
        f" (default {MAX_PACKET // 2**20})",
    )
    parser.add_argument(
        "--log-jobs", action="store_true", help="log the start and the end of each job"
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="the least important log lines to write to stderr (default info)",
    )
    parser.add_argument(
        "--log-format", default="text", choices=("text", "json"), help="(default text)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal or a limit."""
    client_id = arguments.client_id or default_client_id()
    try:
        check_client_id(client_id)
    except ValueError as error:
        raise UsageError(f"--client-id: {error}") from None
    configure_log(arguments.log_level, arguments.log_format, client_id)
    sys.path.insert(0, os.getcwd())
    functions: dict[str, Any] = {}
    for spec in arguments.functions:
        _load(functions, spec)
    serve = _serve_async if _all_async(functions, arguments) else _serve
    try:
        serve(arguments, functions, _options(arguments, client_id))
    except OSError as error:
        raise UsageError(
            f"--status-file {arguments.status_file}: {error.strerror}. Name a file in a directory"
            " that exists and that this user may write to"
        ) from None
    return OK


def _options(arguments: argparse.Namespace, client_id: str) -> dict[str, Any]:
    """Return the options that both workers have."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    status = arguments.status_file
    if status is None:
        status = status_file.default_path(os.environ.get("GEARVISOR_WORKER", ""), user)
    directory = arguments.failed_dir
    if directory is None:
        directory = default_directory(user)
    elif directory and not os.path.isdir(directory):
        raise UsageError(
            f"--failed-dir {directory}: not a directory. Create it for this user first"
        )
    store = FailedStore(directory, keep_payload=arguments.failed_payload == "yes")
    return {
        "servers": servers(arguments),
        "client_id": client_id,
        "ssl_context": ssl_context(arguments),
        "max_jobs": arguments.max_jobs,
        "max_seconds": arguments.max_seconds,
        "max_rss": arguments.max_rss,
        "splay": arguments.splay,
        "job_timeout": arguments.job_timeout,
        "stop_timeout": arguments.stop_timeout,
        "status_file": status or None,
        # One that was not asked for must not keep a worker from its jobs.
        "status_file_required": bool(arguments.status_file),
        "failed_store": store if directory else None,
        "paused_dir": arguments.paused_dir or None,
        "log_jobs": arguments.log_jobs,
        "max_packet": int(arguments.max_packet * 2**20),
    }


def _all_async(functions: dict[str, Any], arguments: argparse.Namespace) -> bool:
    """Whether the functions are for the asyncio worker; raises UsageError when they are mixed."""
    asynchronous = [name for name, each in functions.items() if is_async_callable(each)]
    others = [name for name in functions if name not in asynchronous]
    if asynchronous and others:
        raise UsageError(
            f"function {asynchronous[0]!r} is async and {others[0]!r} is not. Serve them by a"
            " worker each"
        )
    if others and arguments.concurrency > 1:
        raise UsageError(
            f"--concurrency {arguments.concurrency}: function {others[0]!r} is not async, and does"
            " one job at a time. Start more processes, or define it with `async def`"
        )
    if asynchronous and arguments.prefetch > 1:
        raise UsageError(
            f"--prefetch {arguments.prefetch}: function {asynchronous[0]!r} is async, which asks"
            " for jobs at once anyway. Use --concurrency"
        )
    if arguments.prefetch > 1 and arguments.job_timeout is None:
        raise UsageError(
            f"--prefetch {arguments.prefetch}: a job that was asked for ahead waits for the one"
            " before it. Give --job-timeout to limit that"
        )
    return bool(asynchronous)


def _serve(
    arguments: argparse.Namespace, functions: dict[str, Any], options: dict[str, Any]
) -> None:
    worker = Worker(**options, prefetch=arguments.prefetch)
    for name, function in functions.items():
        worker.register(name, function)
    worker.run(handle_signals=True)


def _serve_async(
    arguments: argparse.Namespace, functions: dict[str, Any], options: dict[str, Any]
) -> None:
    import asyncio

    from . import aio

    worker = aio.Worker(**options, concurrency=arguments.concurrency)
    for name, function in functions.items():
        worker.register(name, function)
    asyncio.run(worker.run(handle_signals=True))


def _load(loaded: dict[str, Any], spec: str) -> None:
    """Add the functions that an argument names; raises UsageError."""
    name, _equals, target = spec.rpartition("=")
    module_name, colon, path = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:
        # ValueError and TypeError: module_name is empty or relative
        raise UsageError(
            f"{spec}: cannot import {module_name!r} ({error}). Name a module that can be imported"
            " from the current directory or the Python path"
        ) from None
    if colon:
        functions: Any = module
        for part in path.split("."):
            functions = getattr(functions, part, None)
        functions = {name or path.rpartition(".")[2]: functions}
    else:
        functions = getattr(module, "FUNCTIONS", None)
        if not isinstance(functions, dict):
            raise UsageError(
                f"{spec}: module {module_name!r} has no FUNCTIONS map (name: callable). Give it"
                f" one or name a callable: {spec}:CALLABLE"
            )
        if name:
            functions = {name: functions.get(name)}
    for each, function in functions.items():
        if not callable(function):
            where = path if colon else f"FUNCTIONS[{each!r}]"
            raise UsageError(f"{spec}: module {module_name!r} has no callable {where}")
        try:
            check_function(each)
            if each in loaded:
                raise ValueError(f"function {each!r} is registered already")
        except ValueError as error:
            raise UsageError(f"{spec}: {error}. Give it a name: NAME={target}") from None
        loaded[each] = function
