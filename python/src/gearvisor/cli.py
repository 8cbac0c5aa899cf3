# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `gearvisor` command: worker, submit, status and drain.

Each subcommand imports what it needs when it runs: a worker process pays for nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Callable

from . import __version__
from .connection import format_server, parse_server
from .errors import (
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    ServerUnavailable,
    SubmitError,
)

if TYPE_CHECKING:
    import ssl

    from .worker import Worker

OK, FAILED, USAGE, NO_SERVER, TIMEOUT = range(5)

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

# Option, environment variable, meaning. All files are PEM.
TLS_OPTIONS = (
    ("--tls-ca", "GEARVISOR_TLS_CA", "certificates of the authorities the job server's must be of"),
    ("--tls-cert", "GEARVISOR_TLS_CERT", "certificate to show, with its chain"),
    ("--tls-key", "GEARVISOR_TLS_KEY", "private key of --tls-cert"),
)

DRAIN_POLL = 0.5  # seconds between looks at the queues


class _UsageError(Exception):
    """The command line is wrong in a way argparse cannot see."""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code; raises SystemExit as argparse does."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except _UsageError as error:
        return _say(USAGE, str(error))
    except ServerUnavailable as error:
        return _say(
            NO_SERVER,
            f"no job server answers: {error}. Check --server or GEARVISOR_SERVERS, and that"
            " gearmand runs and listens there",
        )
    except JobTimeout as error:
        return _say(TIMEOUT, f"--timeout {arguments.timeout:g}: {error}; it may still run")
    except (JobFailed, JobException, SubmitError) as error:
        return _say(FAILED, f"function {arguments.function}: {error}")
    except GearmanError as error:
        return _say(FAILED, str(error))
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OK
    except KeyboardInterrupt:
        return 130


def _say(code: int, text: str) -> int:
    sys.stderr.write(f"gearvisor: {text}\n")
    return code


# The command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gearvisor",
        description="Run, feed and watch Gearman workers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gearvisor {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(run=run)
        sub.add_argument(
            "--server",
            action="append",
            type=_server,
            metavar="HOST:PORT",
            help="a job server; may be given several times",
        )
        tls = sub.add_argument_group(
            "TLS",
            "For job servers behind a TLS tunnel such as stunnel. Each defaults to the environment"
            " variable in brackets.",
        )
        for option, variable, what in TLS_OPTIONS:
            tls.add_argument(
                option,
                metavar="FILE",
                default=os.environ.get(variable) or None,
                help=f"{what} [{variable}]",
            )
        return sub

    worker = command("worker", _worker, "serve functions until told to stop")
    worker.add_argument(
        "functions",
        nargs="+",
        metavar="[NAME=]MODULE[:CALLABLE]",
        help="a callable that takes a Job, under its own name or NAME; a module alone serves its"
        " FUNCTIONS map, or only NAME of it. The current directory is searched first",
    )
    worker.add_argument("--client-id", metavar="ID", help="the id shown by `workers`")
    limits = "; the worker then leaves with exit code 0, to be started anew"
    worker.add_argument(
        "--max-jobs", type=_count, metavar="N", help="serve at most so many jobs" + limits
    )
    worker.add_argument(
        "--max-seconds", type=_seconds, metavar="S", help="serve at most so many seconds" + limits
    )
    worker.add_argument(
        "--max-rss", type=_mebibytes, metavar="MIB", help="use at most so much memory" + limits
    )
    worker.add_argument(
        "--splay",
        type=_share,
        default=0.1,
        metavar="F",
        help="lower each limit by a random share of up to F, so that a fleet does not leave at"
        " once (0 to 1, default 0.1)",
    )
    worker.add_argument(
        "--job-timeout",
        type=_seconds,
        metavar="S",
        help="raise JobTimeLimit in a function that runs longer; if it does not end in 5 more"
        " seconds the process does, and the job goes to another worker",
    )
    worker.add_argument(
        "--stop-timeout",
        type=_seconds,
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

    submit = command("submit", _submit, "submit a job and print its result")
    submit.add_argument("function", metavar="FUNCTION")
    submit.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="the payload; - is standard input, as is none at all unless that is a terminal",
    )
    submit.add_argument(
        "--background", action="store_true", help="only queue the job, and print its handle"
    )
    submit.add_argument("--priority", choices=("high", "normal", "low"), default="normal")
    submit.add_argument("--unique", metavar="ID", help="unique id (default: a random one)")
    submit.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds for all of it (default: no limit)"
    )
    submit.add_argument("--json", action="store_true", help="print a JSON object")

    status = command("status", _status, "print the jobs and workers of each function")
    status.add_argument("--json", action="store_true", help="print a JSON object")
    status.add_argument("--watch", type=_seconds, metavar="S", help="print again each S seconds")
    status.add_argument(
        "--timeout", type=_seconds, default=5.0, metavar="S", help="seconds a server (default 5)"
    )

    drain = command("drain", _drain, "wait until no job is waiting or running")
    drain.add_argument("functions", nargs="*", metavar="FUNCTION", help="default: all functions")
    drain.add_argument(
        "--timeout", type=_seconds, metavar="S", help="seconds to wait (default: no limit)"
    )
    drain.add_argument("--json", action="store_true", help="print what is left as a JSON object")
    return parser


def _server(text: str) -> str:
    try:
        return format_server(*parse_server(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(
    convert: Callable[[str], float], fits: Callable[[float], bool], words: str
) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = float("nan")
        if not fits(value):  # which nan never does
            raise argparse.ArgumentTypeError(f"{text!r} is not {words}")
        return value

    return parse


_count = _number(int, lambda value: value > 0, "a whole number above 0")
_seconds = _number(float, lambda value: 0 < value < float("inf"), "a number of seconds above 0")
_mebibytes = _number(float, lambda value: 0 < value < float("inf"), "a number of MiB above 0")
_share = _number(float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def _servers(arguments: argparse.Namespace) -> list[str]:
    given: list[str] | None = arguments.server
    if given:
        return given
    texts = os.environ.get("GEARVISOR_SERVERS", "").split(",")
    try:
        servers = [_server(text.strip()) for text in texts if text.strip()]
    except argparse.ArgumentTypeError as error:
        raise _UsageError(f"environment variable GEARVISOR_SERVERS: {error}") from None
    return servers or ["127.0.0.1:4730"]


def _ssl_context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """A context that trusts --tls-ca alone and checks the server's name, or None without it."""
    if arguments.tls_ca is None:
        if arguments.tls_cert or arguments.tls_key:
            raise _UsageError("--tls-cert and --tls-key need --tls-ca: whom is there to trust?")
        return None
    if arguments.tls_key and not arguments.tls_cert:
        raise _UsageError(f"--tls-key {arguments.tls_key} needs its certificate: give --tls-cert")
    import ssl

    option = "--tls-ca", arguments.tls_ca
    try:
        context = ssl.create_default_context(cafile=arguments.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if arguments.tls_cert:
            option = "--tls-cert", arguments.tls_cert
            context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise _UsageError(
            f"{' '.join(option)}: {reason}. Name a PEM file that this user can read; a certificate"
            " and its --tls-key must belong together"
        ) from None
    return context


# gearvisor worker


def _worker(arguments: argparse.Namespace) -> int:
    from .logs import configure
    from .worker import Worker

    try:
        worker = Worker(
            _servers(arguments),
            arguments.client_id,
            ssl_context=_ssl_context(arguments),
            max_jobs=arguments.max_jobs,
            max_seconds=arguments.max_seconds,
            max_rss=arguments.max_rss,
            splay=arguments.splay,
            job_timeout=arguments.job_timeout,
            stop_timeout=arguments.stop_timeout,
            status_file=arguments.status_file,
        )
    except ValueError as error:
        raise _UsageError(f"--client-id: {error}") from None
    configure(arguments.log_level, arguments.log_format, worker.client_id)
    sys.path.insert(0, os.getcwd())
    for spec in arguments.functions:
        _register(worker, spec)
    try:
        worker.run(handle_signals=True)
    except OSError as error:
        raise _UsageError(
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
        raise _UsageError(
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
            raise _UsageError(
                f"{spec}: module {module_name!r} has no FUNCTIONS map (name: callable). Give it"
                f" one or name a callable: {spec}:CALLABLE"
            )
        if name:
            functions = {name: functions.get(name)}
    for each, function in functions.items():
        if not callable(function):
            where = path if colon else f"FUNCTIONS[{each!r}]"
            raise _UsageError(f"{spec}: module {module_name!r} has no callable {where}")
        try:
            worker.register(each, function)
        except ValueError as error:
            raise _UsageError(f"{spec}: {error}. Give it a name: NAME={target}") from None


# gearvisor submit


def _submit(arguments: argparse.Namespace) -> int:
    from .client import Client

    if arguments.data is None and sys.stdin.isatty():
        data = b""
    elif arguments.data in (None, "-"):
        data = sys.stdin.buffer.read()
    else:
        data = os.fsencode(arguments.data)
    try:
        with Client(_servers(arguments), ssl_context=_ssl_context(arguments)) as client:
            result = client.submit(
                arguments.function,
                data,
                background=arguments.background,
                priority=arguments.priority,
                unique=arguments.unique,
                timeout=arguments.timeout,
            )
    except ValueError as error:
        raise _UsageError(str(error)) from None
    if arguments.json:
        import base64

        document = {
            "function": arguments.function,
            "handle": result.handle,
            "unique": result.unique,
            "server": result.server,
            "seconds": round(result.seconds, 6),
        }
        if not arguments.background:
            document["result"] = _text(result.data)
            document["result_base64"] = base64.b64encode(result.data).decode()
        _print_json(document)
    elif arguments.background:
        sys.stdout.write(f"{result.handle}\n")
    else:
        sys.stdout.buffer.write(result.data)
    sys.stdout.flush()
    return OK


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _print_json(document: object) -> None:
    import json

    json.dump(document, sys.stdout)
    sys.stdout.write("\n")


# gearvisor status


def _status(arguments: argparse.Namespace) -> int:
    servers, context = _servers(arguments), _ssl_context(arguments)
    while True:
        code = _status_once(servers, context, arguments)
        sys.stdout.flush()
        if arguments.watch is None:
            return code
        time.sleep(arguments.watch)


def _status_once(
    servers: list[str], context: ssl.SSLContext | None, arguments: argparse.Namespace
) -> int:
    from .admin import Admin

    documents: list[dict[str, Any]] = []
    failures = []
    for server in servers:
        try:
            with Admin(server, arguments.timeout, context) as admin:
                documents.append(
                    {
                        "server": admin.server,
                        "version": admin.version(),
                        "functions": {
                            name: status._asdict() for name, status in admin.status().items()
                        },
                        "workers": [worker._asdict() for worker in admin.workers()],
                    }
                )
        except ServerUnavailable as error:
            failures.append(error)
    if arguments.json:
        _print_json({"servers": documents})
    elif documents:
        if arguments.watch is not None and sys.stdout.isatty():
            sys.stdout.write("\033[H\033[2J")  # cursor home, clear
        rows: list[tuple[str, ...]] = [("SERVER", "FUNCTION", "QUEUED", "RUNNING", "WORKERS")]
        for document in documents:
            for name, counts in sorted(document["functions"].items()):
                rows.append((document["server"], name, *map(str, counts.values())))
        sys.stdout.write(_table(rows))
    sys.stdout.flush()
    if not failures:
        return OK
    if not documents and arguments.watch is None:
        raise ServerUnavailable.of_all(failures)
    for failure in failures:
        _say(NO_SERVER, str(failure))
    return NO_SERVER


def _table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the first two are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


# gearvisor drain


def _drain(arguments: argparse.Namespace) -> int:
    from .admin import Admin

    servers, context = _servers(arguments), _ssl_context(arguments)
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    while True:
        left: list[dict[str, Any]] = []
        for server in servers:
            with Admin(server, ssl_context=context) as admin:
                for name, status in admin.status().items():
                    if arguments.functions and name not in arguments.functions:
                        continue
                    if status.queued or status.running:
                        left.append({"server": admin.server, "function": name, **status._asdict()})
        late = deadline is not None and time.monotonic() >= deadline
        if arguments.json and (late or not left):
            _print_json({"left": left})
        if not left:
            return OK
        if late:
            texts = [
                "{function} on {server} has {queued} waiting and {running} running".format(**each)
                for each in left
            ]
            return _say(
                TIMEOUT,
                f"--timeout {arguments.timeout:g}: {'; '.join(texts)}. Wait longer, or see with"
                " `gearvisor status` whether workers serve it",
            )
        pause = DRAIN_POLL
        if deadline is not None:
            pause = min(pause, max(0.0, deadline - time.monotonic()))
        time.sleep(pause)
