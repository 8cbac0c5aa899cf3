"""Jobs in, jobs out: whatever is killed while jobs flow, each that was accepted is done."""

import subprocess

import pytest
from test_faults import chosen

PLACE = "/srv/jobs"
PYTHON = "/opt/gearvisor/venv/bin/python"
WORKERS = 4
JOBS = 1500
QUEUE = {"type": "libsqlite3", "path": "/var/lib/gearman/jobs.db"}
FUNCTIONS = """
import time

def work(job):
    time.sleep(0.01)
    with open("done", "a") as file:
        file.write(job.unique + "\\n")
"""
# Notes each job when it was accepted, so that a client that is killed has not forgotten it.
SUBMIT = """
import itertools, sys, time
from gearvisor.client import Client
from gearvisor.errors import GearmanError

numbers = itertools.count()
with Client(["127.0.0.1:4730"], timeout=10) as client, open("accepted", "a") as file:
    accepted, end = 0, time.monotonic() + 120
    while accepted < int(sys.argv[1]) and time.monotonic() < end:
        unique = f"job-{next(numbers)}"
        try:
            client.submit("work", b"x", background=True, unique=unique)
        except GearmanError:
            time.sleep(0.05)
        else:
            accepted += 1
            file.write(unique + "\\n")
            file.flush()
"""
# What is killed, and whether a worker may lose a job in hand, which then runs again.
FAULTS = {
    "SIGTERM to all workers": ("pkill -TERM -f '[g]earvisor worker'", False),
    "SIGKILL to all workers": ("pkill -KILL -f '[g]earvisor worker'", True),
    "SIGKILL to supervisord": ("kill -9 $(supervisorctl pid)", False),
    "SIGKILL to gearmand": ("pkill -KILL -x gearmand", True),
    "restart of the host": (None, True),
}
USUAL = ("SIGTERM to all workers", "SIGKILL to gearmand")


def fleet(number):
    program = {
        "command": "/opt/gearvisor/venv/bin/gearvisor worker --server 127.0.0.1:4730 work=functions:work",
        "directory": PLACE,
        "numprocs": number,
        "autorestart": True,
        "startretries": 60,
    }
    return {"fleet": "jobs", "purge": True, "programs": {"jobs": program}}


@pytest.fixture(scope="module")
def booted(targets):
    target = targets("booted")
    # With its file closed.
    target.converged("gearman_job_server", {"restart": "force"})
    target.shell(f"mkdir -p {PLACE}; rm -f {QUEUE['path']}*")
    for name, text in (("functions.py", FUNCTIONS), ("submit.py", SUBMIT)):
        target.shell(f"cat >{PLACE}/{name} <<'END'\n{text}\nEND")
    target.converged("gearman_job_server", {"queue": QUEUE, "restart": "force"})
    target.converged("supervisor_programs", fleet(WORKERS))
    yield target
    target.converged("supervisor_programs", {"fleet": "jobs", "purge": True})
    target.converged("gearman_job_server", {"restart": "force"})


@pytest.mark.parametrize(
    "fault",
    [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in FAULTS],
)
def test_each_accepted_job_is_done(lab, booted, fault):
    command, may_repeat = FAULTS[fault]
    cause = (lambda: booted.shell(command)) if command else (lambda: lab.restart("booted"))
    accepted, done = while_jobs_flow(lab, booted, JOBS, cause)
    again = len(done) - len(set(done))
    print(
        f"{fault}: {len(accepted)} accepted, {len({*accepted} & {*done})} done, {again} of them again"
    )
    assert set(accepted) <= set(done)
    assert again <= (WORKERS if may_repeat else 0)


def test_a_drain_that_is_killed_loses_no_job(lab, booted):
    """The queue is in memory here, so a restart that comes too early would lose what is in it."""
    drain = {"restart": "drain", "drain_timeout": 60, "job_retries": 1}
    booted.converged("gearman_job_server", drain)
    _result, steps = booted.run("gearman_job_server", {**drain, "job_retries": 2})
    numbers = chosen("drain", steps, "KILL")
    sums = {"accepted": 0, "done": 0, "again": 0}
    failures = []
    for number in numbers:
        booted.converged("gearman_job_server", drain)

        def cut_off_and_run_again(number=number):
            change = {**drain, "job_retries": 2}
            booted.run("gearman_job_server", change, "KILL", number)
            booted.converged("gearman_job_server", change)

        accepted, done = while_jobs_flow(lab, booted, 300, cut_off_and_run_again)
        sums["accepted"] += len(accepted)
        sums["done"] += len({*accepted} & {*done})
        sums["again"] += len(done) - len(set(done))
        if not set(accepted) <= set(done) or len(done) > len(set(done)):
            failures.append((number, steps[number], len(accepted), len(done), len(set(done))))
    print(f"drain killed at {len(numbers)} of {len(steps)} steps: {sums}")
    assert not failures, failures


def while_jobs_flow(lab, booted, number, cause):
    """Submit that many jobs, and cause the fault in the middle; return the ids (accepted, done)."""
    booted.shell(f"rm -f {PLACE}/accepted {PLACE}/done")
    inside = ["podman", "exec", "--workdir", PLACE, lab.container("booted")]
    with subprocess.Popen([*inside, PYTHON, "submit.py", str(number)]) as client:
        lab.wait_until(lambda: lines(booted, "done") > number / 10)
        cause()
        client.wait()
    lab.wait_until(lambda: "work\t0\t0\t" in booted.shell("gearadmin --status"), 120)
    return names(booted, "accepted"), names(booted, "done")


def names(target, file):
    return target.shell(f"cat {PLACE}/{file}").split()


def lines(target, file):
    return int(target.shell(f"cat {PLACE}/{file} 2>/dev/null | wc -l"))
