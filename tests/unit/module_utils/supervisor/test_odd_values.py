# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Odd values of every option end in a result or in one clear sentence; 10,000 of them with GEARVISOR_TEST_ALL."""

import datetime
import functools
import os
import random

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import fleet, options
from ansible_collections.gearvisor.gearvisor.plugins.modules import supervisor_programs

CASES = 10_000 if os.environ.get("GEARVISOR_TEST_ALL") else 600
SEED = 20261127

ODD = [
    None, True, False, 0, 1, -1, 12, 255, 256, 2**31, 2**63, -(2**63), 10**400,
    0.0, 0.5, -1.5, 1e308, float("inf"), float("-inf"), float("nan"),
    "", " ", "0", "1", "-1", "1.5", "1e3", "0x10", "٣", "²", "9" * 5000, "true", "nope",
    "\0", "a\0b", "\n", "a\nb", "\r", "\x1b[31m", "\x7f", "\ud800", "\udcff", "\u2028", "\ufeff", "é", "💥",
    "%", "%%", "%s", "%(", "%()s", "%(x)s", "%(here)s", "%%(here)s", "%(process_num)99999999d", "%(ENV_PATH)s",
    "%(process_num)", "%(program_name)d", "%(numprocs)d", "%(ENV_)s", "%" * 1000,
    ";", "#", " ;", " #", "'", '"', "\\", "'\"", "a'b\"c", "`x`", "$(x)", "$HOME", "[program:x]", "a=b,c=d",
    "/", "//", "/..", "/../../etc/passwd", "~", "~root/x", ".", "..", "./x", "a/b", "/dev/zero", "/dev/stdout",
    "/proc/self/mem", "/proc/self/fd/0", "/etc/passwd", "/tmp/", "/a" * 3000, "x" * 200_000, "-x", "--",
    "/bin/true", "/bin/sh -c 'exec x'", "cd x && y", "A=1 x", "'unbalanced", "x > y", "nohup x &",
    "TERM", "SIGKILL", "SIG", "RTMIN", "_", "__class__", "CHLD",
    "10MB", "10M", "99999999999999999999GB", "1 KB", "tcp://h:1", "tcp://h:0", "tcp://:99999", "unix:///x", "unix://x",
    "TICK_60", "root", "0", "nobody-here", "4294967296", "os:system", "AUTO", "NONE", "syslog", "027", "999",
    [], {}, [None], [[]], [{}], [1, "2", None], ["a"] * 2000, list(range(300)),
    {"": ""}, {"A": None}, {"A": {"b": [1, 2.5]}}, {"A": float("nan")}, {"A-B": 1}, {1: 2},
    {"link": "/a", "target": "/b"},
    {"link": None, "target": []}, {"x" * 1000: 1}, {f"A{n}": n for n in range(2000)}, {"A": "\ud800"}, {None: None},
    b"bytes", datetime.date(2026, 1, 1), (1, 2), {1, 2}, object(),
]  # fmt: skip
NESTED = []
for _ in range(3000):
    NESTED = [NESTED]
ODD.append(NESTED)
ODD.append({"A": NESTED})
LISTS = {name for name, spec in supervisor_programs.ARGUMENTS.items() if spec["type"] == "list"}
NUMBERS = {
    name for name, spec in supervisor_programs.ARGUMENTS.items() if spec["type"] in ("int", "float")
}


@pytest.fixture
def nowhere(tmp_path):
    """A host without Supervisor, where check mode goes all the way to the plan."""
    places = {
        "config": tmp_path / "supervisord.conf",
        "directory": tmp_path,
        "supervisord": tmp_path / "supervisord",
        "fleets": tmp_path / "fleets",
        "runtime": tmp_path / "run",
        "paused": tmp_path / "paused",
    }
    return fleet.Host(lambda *_a, **_k: (0, "", ""), **{key: str(p) for key, p in places.items()})


def request(chance):
    """Return the module's parameters with one to three odd values, and the values."""
    params = {
        name: argument.get("default") for name, argument in supervisor_programs.ARGUMENTS.items()
    }
    kind = chance.choice(list(options.OPTIONS))
    program = {"command": "/bin/true"}
    if kind != "program":
        program.update({"events": "TICK_5"} if kind == "eventlistener" else {"socket": "unix:///x"})
    known = [*options.OPTIONS[kind], *options.OURS]
    values = chance.choices(ODD, k=chance.choice((1, 1, 1, 2, 3)))
    for value in values:
        program[chance.choice(known) if chance.randrange(50) else "odd"] = value
    name = "mail" if chance.randrange(20) else chance.choice([v for v in ODD if isinstance(v, str)])
    programs = chance.choice([{name: program}, [{"name": name, **program}]])
    place = chance.randrange(10)
    if place == 0:
        params["defaults"] = program
        params["programs"] = {"mail": {"command": "/bin/true"}}
    elif place == 1:
        texts = [value for value in values if isinstance(value, str)]
        params[chance.choice(sorted(LISTS))] = [*texts, "x"]
        option = chance.choice(sorted(NUMBERS))
        # As Ansible hands them over: of their type.
        numbers = [v for v in ODD if isinstance(v, (int, float)) and not isinstance(v, bool)]
        params[option] = chance.choice(numbers)
    elif place == 2:
        params[options.PARAMETERS[kind]] = values[0]
    else:
        params[options.PARAMETERS[kind]] = programs
        params["layout"] = chance.choice(["processes", "numprocs"])
    return params, values


def described(number, values):
    shown = [str(value)[:60] if value is not NESTED else "nested" for value in values]
    return f"case {number}: {shown}"


def test_odd_values_end_in_a_result_or_in_a_sentence(nowhere, ends_well):
    chance = random.Random(SEED)
    done = 0

    def converge(params):
        fleet.converge(supervisor_programs.request_from(params), nowhere, check_mode=True)

    for number in range(CASES):
        params, values = request(chance)
        done += ends_well(
            functools.partial(converge, params), functools.partial(described, number, values)
        )
    # Both were tried.
    assert done > CASES / 20
    assert CASES - done > CASES / 2
