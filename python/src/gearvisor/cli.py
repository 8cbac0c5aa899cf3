# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `gearvisor` command.

Only the module of the command that is run is imported: a worker process pays for nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Callable

from . import __version__
from .command_line import (
    FAILED,
    NO_SERVER,
    OK,
    TIMEOUT,
    USAGE,
    UsageError,
    add_server_options,
    count,
    mebibytes,
    say,
    seconds,
    servers,
    share,
    ssl_context,
)
from .errors import (
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    ServerUnavailable,
    SubmitError,
)

if TYPE_CHECKING:
    from .worker import Worker

# What each command does; it is in the module command_NAME.
COMMANDS = {
    "submit": "submit a job and print its result",
    "status": "print the jobs and workers of each function",
    "top": "show what goes on, why it is slow, and what each worker of this host does",
    "drain": "wait until no job is waiting or running",
    "failed": "list, show, retry and drop the jobs that failed on this host",
    "pause": "let the workers of this host take no more jobs of a function",
    "resume": "let the workers of this host take jobs of a paused function again",
}

EPILOG = """\
Job servers are HOST, HOST:PORT or [IPV6]:PORT. Without --server they are taken from the
environment variable GEARVISOR_SERVERS (separated by commas), else it is 127.0.0.1:4730.

exit codes:
  0  done
  1  the job failed or was refused
  2  the command line is wrong
  3  no job server answers
  4  time is over
  75 worker: left in the middle of a job, which its job server hands out again (1 when the job
     sat in C code)
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code; raises SystemExit as argparse does."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(argv).parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except UsageError as error:
        return say(USAGE, str(error))
    except ServerUnavailable as error:
        return say(
            NO_SERVER,
            f"no job server answers: {error}. Check --server or GEARVISOR_SERVERS, and that"
            " gearmand runs and listens there",
        )
    except JobTimeout as error:
        return say(TIMEOUT, f"--timeout {arguments.timeout:g}: {error}; it may still run")
    except (JobFailed, JobException, SubmitError) as error:
        return say(FAILED, f"function {arguments.function}: {error}")
    except GearmanError as error:
        return say(FAILED, str(error))
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except KeyboardInterrupt:
        return 130


# The command line


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gearvisor",
        description="Run, feed and watch Gearman workers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gearvisor {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    _configure_worker(command("worker", "serve functions until told to stop"))
    named = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, text in COMMANDS.items():
        sub = command(name, text)
        if name == named:
            module = importlib.import_module(f".command_{name}", __package__)
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return parser


def _configure_worker(worker: argparse.ArgumentParser) -> None:
    worker.set_defaults(run=_worker)
    add_server_options(worker)
    worker.add_argument(
        "functions",
        nargs="+",
        metavar="[NAME=]MODULE[:CALLABLE]",
        help="a callable that takes a Job, under its own name or NAME; a module alone serves its"
        " FUNCTIONS map, or only NAME of it. The current directory is searched first",
    )
    worker.add_argument("--client-id", metavar="ID", help="the id that `gearvisor status` shows")
    limits = "; the worker then leaves with exit code 0, to be started again"
    worker.add_argument(
        "--max-jobs", type=count, metavar="N", help="serve at most so many jobs" + limits
    )
    worker.add_argument(
        "--max-seconds", type=seconds, metavar="S", help="serve at most so many seconds" + limits
    )
    worker.add_argument(
        "--max-rss", type=mebibytes, metavar="MIB", help="use at most so much memory" + limits
    )
    worker.add_argument(
        "--splay",
        type=share,
        default=0.1,
        metavar="F",
        help="lower each limit by a random share of up to F, so that a fleet does not leave at"
        " once (0 to 1, default 0.1)",
    )
    worker.add_argument(
        "--job-timeout",
        type=seconds,
        metavar="S",
        help="raise JobTimeLimit in a function that runs longer; if it does not end in 5 more"
        " seconds the process does, and the job goes to another worker",
    )
    worker.add_argument(
        "--stop-timeout",
        type=seconds,
        metavar="S",
        help="leave without the running job so many seconds after the first SIGTERM or SIGINT"
        " (default: finish it)",
    )
    worker.add_argument(
        "--status-file",
        metavar="PATH",
        help="keep the counters here as JSON, written once a second; removed when leaving",
    )
    worker.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error"),
        help="the least important log lines to write to stderr (default info)",
    )
    worker.add_argument(
        "--log-format", default="text", choices=("text", "json"), help="(default text)"
    )


# gearvisor worker


def _worker(arguments: argparse.Namespace) -> int:
    from .logs import configure
    from .worker import Worker

    try:
        worker = Worker(
            servers(arguments),
            arguments.client_id,
            ssl_context=ssl_context(arguments),
            max_jobs=arguments.max_jobs,
            max_seconds=arguments.max_seconds,
            max_rss=arguments.max_rss,
            splay=arguments.splay,
            job_timeout=arguments.job_timeout,
            stop_timeout=arguments.stop_timeout,
            status_file=arguments.status_file,
        )
    except ValueError as error:
        raise UsageError(f"--client-id: {error}") from None
    configure(arguments.log_level, arguments.log_format, worker.client_id)
    sys.path.insert(0, os.getcwd())
    for spec in arguments.functions:
        _register(worker, spec)
    try:
        worker.run(handle_signals=True)
    except OSError as error:
        raise UsageError(
            f"--status-file {arguments.status_file}: {error.strerror}. Name a file in a folder that"
            " exists and that this user may write to"
        ) from None
    return OK


def _register(worker: Worker, spec: str) -> None:
    import importlib

    name, _, target = spec.rpartition("=")
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
            worker.register(each, function)
        except ValueError as error:
            raise UsageError(f"{spec}: {error}. Give it a name: NAME={target}") from None
