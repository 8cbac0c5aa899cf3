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
from typing import Callable

from . import __version__
from .command_line import (
    FAILED,
    NO_SERVER,
    OK,
    TIMEOUT,
    USAGE,
    UsageError,
    print_message,
)
from .errors import (
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    ServerUnavailable,
    SubmitError,
)

# What each command does; it is in the module command_NAME.
COMMANDS = {
    "worker": "serve functions until stopped",
    "submit": "submit a job and print its result",
    "status": "print the jobs and workers of each function",
    "top": "show what goes on, why it is slow, and what each worker of this host does",
    "exporter": "serve metrics for Prometheus and a status page",
    "drain": "wait until no job is waiting or running",
    "failed": "list, show, retry and drop the jobs that failed on this host",
    "cancel": "fail the waiting jobs of a function, and keep them as failed jobs",
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
        return print_message(USAGE, str(error))
    except ServerUnavailable as error:
        return print_message(
            NO_SERVER,
            f"no job server answers: {error}. Check --server or GEARVISOR_SERVERS, and that"
            " gearmand runs and listens there",
        )
    except JobTimeout as error:
        return print_message(TIMEOUT, f"--timeout {arguments.timeout:g}: {error}; it may still run")
    except (JobFailed, JobException, SubmitError) as error:
        return print_message(FAILED, f"function {arguments.function}: {error}")
    except GearmanError as error:
        return print_message(FAILED, str(error))
    except BrokenPipeError:  # the reader of the output has closed it
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

    named = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, text in COMMANDS.items():
        sub = command(name, text)
        if name == named:
            module = importlib.import_module(f".command_{name}", __package__)
            module.configure(sub)
            sub.set_defaults(run=module.run)
    return parser
