# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pygearman as a peer; test_interoperation.py describes what a peer does."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import gearman

PREFIX = b"pygearman-"  # str names end its worker at the first job


class Data(gearman.DataEncoder):
    """Payloads as they are; without this they are taken for text."""

    @classmethod
    def encode(cls, encodable_object):
        return encodable_object

    @classmethod
    def decode(cls, decodable_string):
        return decodable_string


class Worker(gearman.GearmanWorker):
    data_encoder = Data

    def on_job_exception(self, current_job, exc_info):
        super().on_job_exception(current_job, exc_info)
        return True  # or it would leave


class Client(gearman.GearmanClient):
    data_encoder = Data


def raises(worker, job):
    raise ValueError("raised by the peer")


def progress(worker, job):
    worker.send_job_status(job, 1, 2)
    worker.send_job_data(job, b"one \0")
    worker.send_job_data(job, b"two \xff")
    worker.send_job_status(job, 2, 2)
    return b"three"


def work(server, store):
    worker = Worker([server])
    for name, function in {
        b"reverse": lambda worker, job: job.data[::-1],
        b"store": lambda worker, job: Path(store).write_bytes(job.data) and b"",
        b"fail": raises,  # the one way it has to fail a job
        b"progress": progress,
    }.items():
        worker.register_task(PREFIX + name, function)
    worker.work(poll_timeout=1.0)


def submit(server, function, background):
    client = Client([server])
    job = client.submit_job(
        function.encode(), sys.stdin.buffer.read(), background=background, poll_timeout=10
    )
    status = job.status
    return {
        "outcome": {"COMPLETE": "done", "CREATED": "queued"}.get(job.state, job.state.lower()),
        "result": job.result or b"",
        "data": list(job.data_updates),
        "status": [status["numerator"], status["denominator"]] if "numerator" in status else None,
    }


def text(value):
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "worker":
        work(*arguments)
    json.dump(submit(arguments[0], arguments[1], role == "background"), sys.stdout, default=text)
