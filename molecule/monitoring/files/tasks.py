"""Jobs that go wrong, as functions of a worker."""

import os
import signal
import time


def work(job):
    time.sleep(float(job.data))
    return job.data


def fail(job):
    raise RuntimeError("the disk is full")


def poison(job):
    os.kill(os.getpid(), signal.SIGKILL)


FUNCTIONS = {"work": work, "fail": fail, "poison": poison}
