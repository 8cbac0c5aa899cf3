# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gear as a peer; test_interoperation.py describes what a peer does."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from pathlib import Path

import gear

PREFIX = "gear-"


def work(server, store):
    worker = gear.Worker("gear")
    worker.addServer(*server.split(":"))
    worker.waitForServer(10)
    for name in ("reverse", "store", "fail", "raise", "progress"):
        worker.registerFunction(PREFIX + name)
    while True:
        job = worker.getJob()
        name = job.name[len(PREFIX) :]
        if name == "reverse":
            job.sendWorkComplete(job.arguments[::-1])
        elif name == "store":
            Path(store).write_bytes(job.arguments)
            job.sendWorkComplete()
        elif name == "fail":
            job.sendWorkFail()
        elif name == "raise":
            job.sendWorkException(b"raised by the peer")
        else:
            job.sendWorkStatus(1, 2)
            job.sendWorkData(b"one \0")
            job.sendWorkData(b"two \xff")
            job.sendWorkStatus(2, 2)
            job.sendWorkComplete(b"three")


class Client(gear.Client):
    def __init__(self):
        super().__init__("gear")
        self.over = threading.Event()

    def handleWorkComplete(self, packet):
        super().handleWorkComplete(packet)
        self.over.set()

    def handleWorkFail(self, packet):
        super().handleWorkFail(packet)
        self.over.set()

    def handleWorkException(self, packet):
        super().handleWorkException(packet)
        self.over.set()


def submit(server, function, background):
    client = Client()
    client.addServer(*server.split(":"))
    client.waitForServer(10)
    client.setOption("exceptions")
    job = gear.Job(function, sys.stdin.buffer.read())
    client.submitJob(job, background=background)
    if background:
        return {"outcome": "queued"}
    if not client.over.wait(60):
        return {"outcome": "no answer"}
    if job.exception is not None:
        return {"outcome": "exception", "result": job.exception}
    if job.failure:
        return {"outcome": "failed"}
    status = [int(job.numerator), int(job.denominator)] if job.numerator is not None else None
    # It keeps the result with what came as data, and an empty one not at all.
    *data, result = job.data or [b""]
    return {"outcome": "done", "result": result, "data": data, "status": status}


def text(value):
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "worker":
        work(*arguments)
    json.dump(submit(arguments[0], arguments[1], role == "background"), sys.stdout, default=text)
    sys.stdout.flush()
    os._exit(0)  # its threads would take a second to leave
