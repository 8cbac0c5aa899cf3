"""The work of the fleet under test: it takes a while and notes each job that it completed."""

import os
import time


def work(job):
    time.sleep(0.05)
    with open(f"/srv/fleet/done/{os.getpid()}", "a") as done:
        done.write(job.data.decode() + "\n")
    return job.data
