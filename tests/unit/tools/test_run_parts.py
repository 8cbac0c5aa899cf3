"""./run test runs all parts, two at a time, and its last lines report what failed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[3] / "tools/run_parts.py"
PROGRAM = """#!/bin/sh
echo "start $1" >>{log}
case $1 in
    bad) echo "what went wrong"; exit 3 ;;
    pytest) printf '%s\n' "E  long" "FAILED test_x.py::test_y - assert" "1 failed" "more"; exit 1 ;;
    rescued) for n in $(seq 12); do echo "fatal: [host] rescued $n"; done; echo "FAILED the end"; exit 1 ;;
    long) sleep 60 ;;
    *) sleep 0.2; echo "output of $*" ;;
esac
echo "end $1" >>{log}
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    path.write_text(PROGRAM.format(log=tmp_path / "order"))
    path.chmod(0o755)
    return path


def command(program, *parts):
    return [sys.executable, TOOL, "--logs", program.parent / "logs", "--", program, *parts]


def test_all_parts_run_after_one_failed_and_the_end_names_it(program):
    done = subprocess.run(
        command(program, "bad", "good", "molecule default"), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "what went wrong" in done.stdout
    assert "output of molecule default" in done.stdout
    assert done.stdout.rstrip().splitlines()[-3:] == [
        "FAILED: 1 of 3 parts. Run each alone until it passes:",
        "  ./run bad",
        "    what went wrong",
    ]


def test_the_end_names_the_tests_that_failed(program):
    done = subprocess.run(command(program, "pytest"), capture_output=True, text=True)
    assert done.stdout.rstrip().splitlines()[-2:] == [
        "  ./run pytest",
        "    FAILED test_x.py::test_y - assert",
    ]


def test_what_ended_a_part_is_named_after_ten_earlier_errors(program):
    done = subprocess.run(command(program, "rescued"), capture_output=True, text=True)
    *_, before, last = done.stdout.rstrip().splitlines()
    assert (before, last) == ("    fatal: [host] rescued 12", "    FAILED the end")


def test_the_last_line_shows_that_all_passed(program):
    parts = ["one", "unit tests/unit"]
    done = subprocess.run(command(program, *parts), capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.rstrip().splitlines()[-1] == "PASSED: all 2 parts."


def test_no_more_than_two_at_a_time(program):
    subprocess.run(command(program, *"abcde"), check=True, capture_output=True)
    running = most = 0
    for line in (program.parent / "order").read_text().splitlines():
        running += 1 if line.startswith("start") else -1
        most = max(most, running)
    assert most == 2


def test_an_interrupted_run_ends_its_parts(program):
    process = subprocess.Popen(command(program, "long", "more"), stdout=subprocess.PIPE, text=True)
    order = program.parent / "order"
    deadline = time.monotonic() + 60
    while not (order.exists() and "start long" in order.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.rstrip().endswith("Interrupted.")
    assert "end long" not in order.read_text()
