# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the parts of a test run, two at a time, and report on all of them: see ./run test.

    run_parts.py [--jobs N] --logs DIRECTORY -- PROGRAM PART...

A part is the arguments of one call of PROGRAM, such as "molecule default". Its output goes into a
file of DIRECTORY and is printed when the part ends, so that parts do not mix. All parts run, also
after one failed. The exit code is 1 when a part failed, 130 when the run was interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SECONDS = "seconds.json"  # how long each part took last time: {part: seconds}
# How a line of pytest's summary, of Ansible or of ./run itself begins that says what failed.
TELLING = ("FAILED ", "ERROR ", "fatal: ", "These found something:")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Running:
    part: str
    log: Path
    started: float
    process: subprocess.Popen[bytes]


@dataclass
class Ended:
    part: str
    seconds: float
    failed: bool
    reasons: list[str]  # of one that failed


def reasons(output: str) -> list[str]:
    """Return the last ten lines that tell why a part failed, or that it printed at all.

    The last: an Ansible error that a rescue mended comes before what ended the part.
    """
    lines = [line.rstrip() for line in COLOUR.sub("", output).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(TELLING)]
    return [line[:200] for line in (telling or lines)[-10:]]


def longest_first(parts: list[str], seconds: dict[str, float]) -> list[str]:
    """Order parts so that no long one starts last; those never run before come first."""
    return sorted(parts, key=lambda part: -seconds.get(part, float("inf")))


def summary(ended: list[Ended]) -> str:
    """Return the timing table and the last line: which parts failed, or that none did."""
    lines = ["Time by part, slowest first:"]
    for each in sorted(ended, key=lambda each: -each.seconds):
        lines.append(f"{each.seconds:6.0f} s  {each.part}{'  FAILED' if each.failed else ''}")
    failed = [each for each in ended if each.failed]
    if failed:
        lines += [
            "",
            f"FAILED: {len(failed)} of {len(ended)} parts. Run each alone until it passes:",
        ]
        for each in failed:
            lines += [f"  ./run {each.part}", *(f"    {reason}" for reason in each.reasons)]
    else:
        lines += ["", f"PASSED: all {len(ended)} parts."]
    return "\n".join(lines)


def start(program: str, part: str, logs: Path) -> Running:
    log = logs / (re.sub("[ /]", "-", part) + ".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *shlex.split(part)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be ended with all its children
        )
    print(f"==> ./run {part}: started", flush=True)
    return Running(part, log, time.monotonic(), process)


def report(running: Running) -> Ended:
    failed = running.process.returncode != 0
    seconds = time.monotonic() - running.started
    bar = "=" * 80
    print(f"{bar}\n==> ./run {running.part}: its output\n{bar}", flush=True)
    output = running.log.read_bytes()
    sys.stdout.buffer.write(output)
    outcome = f"FAILED with exit code {running.process.returncode}" if failed else "passed"
    print(f"==> ./run {running.part}: {outcome} after {seconds:.0f} s", flush=True)
    why = reasons(output.decode(errors="replace")) if failed else []
    return Ended(running.part, seconds, failed, why)


def run(program: str, parts: list[str], logs: Path, jobs: int, signals: list[int]) -> list[Ended]:
    """Run the parts until all have ended, or a signal has come: then end those that still run."""
    waiting = list(parts)
    running: list[Running] = []
    ended: list[Ended] = []
    try:
        while (waiting or running) and not signals:
            while waiting and len(running) < jobs:
                running.append(start(program, waiting.pop(0), logs))
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                ended.append(report(each))
            time.sleep(0.2)
    finally:
        for each in running:
            os.killpg(each.process.pid, signal.SIGTERM)
        for each in running:
            each.process.wait()
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("program")
    parser.add_argument("parts", nargs="+")
    options = parser.parse_args()
    # Noted, not raised: an exception in the middle of start() would lose the process that it started.
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: signals.append(number))
    options.logs.mkdir(parents=True, exist_ok=True)
    times = options.logs / SECONDS
    seconds = json.loads(times.read_text()) if times.exists() else {}
    parts = longest_first(options.parts, seconds)
    ended = run(options.program, parts, options.logs, options.jobs, signals)
    if signals:
        print("\nInterrupted.", flush=True)
        return 130
    seconds.update({each.part: round(each.seconds) for each in ended if not each.failed})
    times.write_text(json.dumps(seconds, indent=2, sort_keys=True) + "\n")
    print("\n" + summary(ended))
    return int(any(each.failed for each in ended))


if __name__ == "__main__":
    sys.exit(main())
