# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pygearman as a peer; table.py describes what a peer does."""

from __future__ import annotations

import base64
import json
import sys
import time

import gearman


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
    worker.send_job_warning(job, b"careful")
    worker.send_job_data(job, b"part \0\xff")
    worker.send_job_status(job, 2, 2)
    return b"end"


def slow(worker, job):
    worker.send_job_status(job, 1, 2)
    time.sleep(0.7)
    return b""


def work(server, prefix):
    worker = Worker([server])
    for name, function in {
        "echo": lambda worker, job: job.data,
        "größe": lambda worker, job: job.data,
        "unique": lambda worker, job: job.unique,
        "fail": raises,  # the one way it has to fail a job
        "raise": raises,
        "progress": progress,
        "slow": slow,
    }.items():
        # str names end its worker at the first job
        worker.register_task(f"{prefix}-{name}".encode(), function)
    worker.work(poll_timeout=1.0)


def submit(server, function, unique):
    request = Client([server]).submit_job(
        function.encode(), sys.stdin.buffer.read(), unique=unique.encode(), poll_timeout=20
    )
    status = request.status
    outcome = {"COMPLETE": "done", "FAILED": "failed"}.get(request.state, "no answer")
    return {
        "outcome": "exception" if request.exception else outcome,
        "result": request.exception or request.result or b"",
        "data": list(request.data_updates),
        "warnings": list(request.warning_updates),
        "status": [status["numerator"], status["denominator"]] if "numerator" in status else None,
    }


def background(server, function, unique):
    client = Client([server])
    request = client.submit_job(function.encode(), b"x", unique=unique.encode(), background=True)
    statuses = []
    while len(statuses) < 80:
        status = client.get_job_status(request).status
        names = ("known", "running", "numerator", "denominator")
        statuses.append([int(status.get(name) or 0) for name in names])
        if not statuses[-1][0]:
            break
        time.sleep(0.1)
    return {"outcome": "queued", "statuses": statuses}


def text(value):
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    role, host, port, *arguments = sys.argv[1:]
    run = {"worker": work, "client": submit, "background": background}[role]
    json.dump(run(f"{host}:{port}", *arguments), sys.stdout, default=text)
