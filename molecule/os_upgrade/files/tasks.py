"""What the workers do."""

import time


def work(job):
    time.sleep(0.05)
    return job.data
