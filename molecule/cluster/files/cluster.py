"""The work of the cluster under test: it takes a while and notes each job that it completed."""

import os
import time


def record(job):
    time.sleep(0.02)
    with open(f"/srv/cluster/done/{os.getpid()}", "a") as done:
        done.write(job.data.decode() + "\n")
    return job.data
