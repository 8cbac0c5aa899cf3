"""Jobs that go wrong, as functions of a worker."""

import os
import signal
import time


def hold(job):
    """Run while the file is there that the job names."""
    while os.path.exists(job.data):
        time.sleep(0.1)
    return b""


def fail(job):
    raise RuntimeError("the disk is full")


def poison(job):
    os.kill(os.getpid(), signal.SIGKILL)


FUNCTIONS = {"hold": hold, "fail": fail, "poison": poison}
