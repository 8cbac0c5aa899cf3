"""Jobs that go wrong in each way an operator meets, as functions of a Python worker."""

import os
import signal
import time


def broken():
    return os.path.exists("/tmp/broken")


def work(job):
    time.sleep(float(job.data or b"0"))
    return job.data


def fail(job):
    if broken():
        raise RuntimeError("the disk is full: " + job.data.decode())
    return b"fine"


def poison(job):
    os.kill(os.getpid(), signal.SIGKILL)


kept = []


def leak(job):
    kept.append(os.urandom(1) * (200 * 2**20))
    return b""


FUNCTIONS = {"py_work": work, "py_fail": fail, "py_poison": poison, "py_leak": leak}
