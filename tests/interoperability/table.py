# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tries clients and workers of other libraries with Gearvisor's, and prints docs/interoperability.md.

    tests/interoperability/table.py [--write | --check]

--check compares with the page instead, and exits with 1 if it differs: `./run interoperability`.

A peer is a program in peers/ on another library, or Debian's `gearman`:

    PEER worker HOST PORT PREFIX               serves PREFIX-echo, -größe, -unique, -fail, -raise,
                                               -progress and -slow
    PEER client HOST PORT FUNCTION UNIQUE      submits its standard input and prints what became of it
    PEER background HOST PORT FUNCTION UNIQUE  submits a job in the background and polls its status

Peers are written as their libraries' users write them: none asks for exceptions, which the PHP
extension does by itself.

It needs the Debian packages gearman-job-server, gearman-tools, php-cli, php-gearman, gcc,
libgearman-dev, libgearman-client-perl and nodejs with npm; pygearman and gear of PyPI, beside it. The
npm packages are installed into a temporary folder.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import difflib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs/interoperability.md"
sys.path.insert(0, str(ROOT / "python/src"))

from gearvisor.client import Client  # noqa: E402
from gearvisor.errors import GearmanError, JobException, JobFailed  # noqa: E402

NPM = ("gearman@2.1.0", "node-gearman@0.2.2")
HANGS = 15.0  # seconds after which a peer is given up
MEBIBYTE = bytes(range(256)) * 4096

PEERS = {
    "gearman": "the `gearman` tool",
    "c": "libgearman (C)",
    "perl": "Perl, libgearman-client-perl",
    "php": "PHP extension",
    "pygearman": "pygearman 0.2.6",
    "gear": "gear 0.16.0",
    "npm_gearman": "npm gearman 2.1.0",
    "npm_node_gearman": "npm node-gearman 0.2.2",
}
CHECKS = {
    "echo": "text",
    "mebibyte": "1 MiB, all bytes",
    "größe": "name in UTF-8",
    "fail": "failure",
    "raise": "exception",
    "progress": "warning, data, status",
    "background": "background, status",
    "unique": "unique id",
}

# --- what runs ----------------------------------------------------------------------------------


@contextlib.contextmanager
def running(*commands, cwd=None):
    """Programs in the background, killed at the end."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    processes = [
        subprocess.Popen(command, cwd=cwd, start_new_session=True, **quiet) for command in commands
    ]
    try:
        yield
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def job_server(*options):
    """gearmand on a free port; yields the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = ["/usr/sbin/gearmand", "--listen=127.0.0.1", f"--port={port}", "--log-file=none"]
    with running([*listen, *options]):
        wait_for(lambda: status(port) is not None)
        yield port


def status(port):
    """{function: workers}, or None without an answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            stream = connection.makefile("rwb")
            stream.write(b"status\r\n")
            stream.flush()
            lines = list(iter(lambda: stream.readline().decode(errors="replace"), ".\n"))
    except OSError:
        return None
    return {line.split("\t")[0]: int(line.split("\t")[3]) for line in lines}


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("what was started did not come up")
        time.sleep(0.05)


def prepare(folder):
    """Build and install what the peers need; returns {peer: command}."""
    peers = HERE / "peers"
    subprocess.run(["gcc", "-Wall", "-o", folder / "c", peers / "c.c", "-lgearman"], check=True)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *NPM]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
    for name in ("npm_gearman.js", "npm_node_gearman.js"):
        # node looks for packages beside the program.
        (folder / name).write_text((peers / name).read_text())
    return {
        "gearman": ["gearman"],
        "c": [str(folder / "c")],
        "perl": ["perl", str(peers / "perl.pl")],
        "php": ["php", str(peers / "php.php")],
        "pygearman": [sys.executable, str(peers / "pygearman_peer.py")],
        "gear": [sys.executable, str(peers / "gear_peer.py")],
        "npm_gearman": ["node", str(folder / "npm_gearman.js")],
        "npm_node_gearman": ["node", str(folder / "npm_node_gearman.js")],
    }


# --- their clients, our workers -----------------------------------------------------------------


def our_workers(port):
    server = f"--server=127.0.0.1:{port}"
    python = [sys.executable, "-m", "gearvisor", "worker", server, "functions"]
    environment = ["env", f"PYTHONPATH={ROOT / 'python/src'}:{HERE}"]
    php = ["php", str(ROOT / "php/worker.php"), server, f"--functions={HERE}/functions.php"]
    return running([*environment, *python], php, cwd="/")


def client_cell(command, port, language, check):
    """What a peer's client made of a job of our worker: "yes", or what was wrong."""
    function = f"{language}-{ {'mebibyte': 'echo', 'background': 'slow'}.get(check, check) }"
    payload = MEBIBYTE if check == "mebibyte" else b"hello"
    unique = f"id-{check}-{language}"
    try:
        if command == ["gearman"]:
            return tool_client_cell(port, function, payload, unique, check)
        role = "background" if check == "background" else "client"
        done = subprocess.run(
            [*command, role, "127.0.0.1", str(port), function, unique],
            input=payload, capture_output=True, timeout=HANGS, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return "hangs"
    except ValueError:
        return "ends without an answer"
    return judged(answer, check, payload, unique, {"php": "ValueError: raised"}.get(language))


def judged(answer, check, payload, unique, raised="ValueError: raised"):
    raised = raised or "ValueError: raised"
    result = base64.b64decode(answer.get("result") or "")
    outcome = answer["outcome"]
    if check == "background":
        return background_judged(answer)
    if check in ("fail", "raise"):
        if check == "fail":
            return "yes" if outcome == "failed" else outcome
        if outcome == "exception":
            return "yes" if result.decode(errors="replace") == raised else "without its text"
        return "as a failure" if outcome == "failed" else outcome
    if outcome != "done":
        return outcome
    if check == "progress":
        parts = [base64.b64decode(each) for each in answer["data"]]
        missing = [
            name
            for name, there in (
                (
                    "warning",
                    [base64.b64decode(each) for each in answer["warnings"]] == [b"careful"],
                ),
                ("data", parts == [b"part \0\xff"]),
                ("status", answer["status"] == [2, 2]),
            )
            if not there
        ]
        right = result == b"end"
        return (
            ("yes" if not missing else "no " + ", no ".join(missing)) if right else "wrong result"
        )
    expected = unique.encode() if check == "unique" else payload
    return "yes" if result == expected else "wrong result"


def background_judged(answer):
    statuses = answer.get("statuses")
    if answer["outcome"] != "queued":
        return answer["outcome"]
    if statuses is None:
        return "queued, no status call"
    seen = any(each[:2] == [1, 1] for each in statuses)
    over = bool(statuses) and statuses[-1][0] == 0
    return "yes" if seen and over else "queued, no status"


def tool_client_cell(port, function, payload, unique, check):
    command = ["gearman", "-h", "127.0.0.1", "-p", str(port), "-f", function, "-u", unique]
    if check == "background":
        command.append("-b")
    done = subprocess.run(command, input=payload, capture_output=True, timeout=HANGS, check=False)
    if check == "background":
        return "queued, no status call" if done.returncode == 0 else "refused"
    if check in ("fail", "raise"):
        if done.returncode == 0:
            return "taken for done"
        return (
            "yes"
            if check == "fail" or b"ValueError: raised" in done.stderr + done.stdout
            else "as a failure"
        )
    if done.returncode != 0:
        return "fails"
    if check == "progress":
        missing = [
            name
            for name, there in (
                ("warning", b"careful" in done.stdout + done.stderr),
                ("data", b"part \0\xff" in done.stdout),
                (
                    "status",
                    b"2/2" in done.stdout + done.stderr or b"100" in done.stdout + done.stderr,
                ),
            )
            if not there
        ]
        return "yes" if not missing else "no " + ", no ".join(missing)
    return (
        "yes"
        if done.stdout == (unique.encode() if check == "unique" else payload)
        else "wrong result"
    )


# --- their workers, our clients -----------------------------------------------------------------


def their_workers(commands, port):
    programs = [
        [*command, "worker", "127.0.0.1", str(port), name]
        for name, command in commands.items()
        if name != "gearman"
    ]
    tool = ["gearman", "-h", "127.0.0.1", "-p", str(port), "-w", "-f"]
    programs += [[*tool, f"gearman-{name}", "--", "cat"] for name in ("echo", "größe")]
    programs += [[*tool, "gearman-fail", "--", "false"]]
    # Started again when they leave, as they do after some jobs.
    again = ["sh", "-c", 'while :; do "$@"; sleep 0.2; done', "sh"]
    return running(*([*again, *program] for program in programs))


def worker_cell(port, name, check):
    function = f"{name}-{ {'mebibyte': 'echo', 'background': 'slow'}.get(check, check) }"
    if function not in (status(port) or {}):
        return "no call"
    payload, unique = (MEBIBYTE if check == "mebibyte" else b"hello"), f"id-{check}"
    data, warnings, progress = [], [], []
    with Client([f"127.0.0.1:{port}"], timeout=HANGS) as client:
        try:
            result = client.submit(
                function, payload, unique=unique, background=check == "background",
                on_data=data.append, on_warning=warnings.append,
                on_status=lambda *status: progress.append(list(status)),
            )  # fmt: skip
            answer = {"outcome": "queued" if check == "background" else "done"}
        except JobException as error:
            answer = {"outcome": "exception", "result": str(error).encode()}
        except JobFailed:
            answer = {"outcome": "failed"}
        except GearmanError:
            return "no answer"
        if answer["outcome"] == "exception":
            return "yes" if b"raised by the peer" in answer["result"] else "without its text"
        if check == "background":
            statuses = []
            while len(statuses) < 80 and (not statuses or statuses[-1][0]):
                now = client.status(result)
                statuses.append([int(now.known), int(now.running)])
                time.sleep(0.1)
            return background_judged({"outcome": "queued", "statuses": statuses})
    encoded = [[base64.b64encode(each) for each in parts] for parts in (data, warnings)]
    answer.update(data=encoded[0], warnings=encoded[1], status=progress[-1] if progress else None)
    if answer["outcome"] == "done":
        answer["result"] = base64.b64encode(result.data)
    return judged(answer, check, payload, unique)


def worker_cells(port, name):
    """{check: text} of a worker; the exception last, which some do not survive."""
    order = sorted(CHECKS, key=lambda check: check == "raise")
    return {check: again(worker_cell, port, name, check) for check in order}


def again(cell, *arguments):
    """What a cell gives; a second try decides where the first was not right, on a busy machine."""
    text = cell(*arguments)
    return text if text == "yes" else cell(*arguments)


# --- the page -----------------------------------------------------------------------------------


def measure(commands, option):
    """{(side, peer, check): text} with gearmand's option exceptions, or without it."""
    cells = {}
    with job_server(*option) as port, ThreadPoolExecutor(4) as pool:
        with our_workers(port):
            wait_for(lambda: sum((status(port) or {}).values()) == 14)
            jobs = {
                (name, check, language): pool.submit(
                    again, client_cell, command, port, language, check
                )
                for name, command in commands.items()
                for check in CHECKS
                for language in ("php", "python")
            }
            for name in commands:
                for check in CHECKS:
                    php, python = (jobs[name, check, each].result() for each in ("php", "python"))
                    both = php if php == python else f"PHP: {php}; Python: {python}"
                    cells["client", name, check] = both
        with their_workers(commands, port):
            wait_for(lambda: sum((status(port) or {}).values()) >= 7 * 4 + 3)
            time.sleep(3)
            jobs = {name: pool.submit(worker_cells, port, name) for name in commands}
            for name, job in jobs.items():
                cells.update(
                    {("worker", name, check): text for check, text in job.result().items()}
                )
    return cells


def table(cells, side):
    lines = [
        "| | " + " | ".join(CHECKS.values()) + " |",
        "| --- |" + " --- |" * len(CHECKS),
    ]
    for name, title in PEERS.items():
        row = [cells[side, name, check] for check in CHECKS]
        lines.append(f"| {title} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def page(without, with_option):
    same = table(without, "worker") == table(with_option, "worker")
    return (HERE / "page.md").read_text().format(
        clients=table(without, "client"),
        clients_with=table(with_option, "client"),
        workers=table(without, "worker"),
        workers_with="The option changes nothing here."
        if same
        else "With the option:\n\n" + table(with_option, "worker"),
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    what.add_argument("--check", action="store_true", help="compare with it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = prepare(pathlib.Path(folder))
        text = page(measure(commands, []), measure(commands, ["--exceptions"]))
    if arguments.check:
        lines = PAGE.read_text().splitlines(), text.splitlines()
        changes = list(difflib.unified_diff(*lines, "the page", "this run", lineterm=""))
        print("\n".join(changes) or f"{PAGE.relative_to(ROOT)} is as this run found it.")
        return int(bool(changes))
    if arguments.write:
        PAGE.write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
