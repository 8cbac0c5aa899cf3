# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gear as a peer; table.py describes what a peer does."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time

import gear


def work(host, port, prefix):
    worker = gear.Worker("gear")
    worker.addServer(host, port)
    worker.waitForServer(10)
    for name in ("echo", "größe", "unique", "fail", "raise", "progress", "slow"):
        worker.registerFunction(f"{prefix}-{name}")
    while True:
        job = worker.getJob()
        name = job.name[len(prefix) + 1 :]
        if name == "fail":
            job.sendWorkFail()
        elif name == "raise":
            job.sendWorkException(b"raised by the peer")
        elif name == "progress":
            job.sendWorkStatus(1, 2)
            job.sendWorkWarning(b"careful")
            job.sendWorkData(b"part \0\xff")
            job.sendWorkStatus(2, 2)
            job.sendWorkComplete(b"end")
        elif name == "slow":
            job.sendWorkStatus(1, 2)
            time.sleep(0.7)
            job.sendWorkComplete()
        else:
            unique = job.unique if isinstance(job.unique, bytes) else job.unique.encode()
            job.sendWorkComplete(unique if name == "unique" else job.arguments)


class Client(gear.Client):
    def __init__(self):
        super().__init__("gear")
        self.over = threading.Event()
        self.warnings = []
        self.parts = []

    def handleWorkData(self, packet):
        job = super().handleWorkData(packet)
        self.parts.append(job.data[-1])
        return job

    def handleWorkWarning(self, packet):
        self.warnings.append(packet.getArgument(1, True))
        return super().handleWorkWarning(packet)

    def handleWorkComplete(self, packet):
        super().handleWorkComplete(packet)
        self.over.set()

    def handleWorkFail(self, packet):
        super().handleWorkFail(packet)
        self.over.set()

    def handleWorkException(self, packet):
        super().handleWorkException(packet)
        self.over.set()


def connected(host, port):
    client = Client()
    client.addServer(host, port)
    client.waitForServer(10)
    return client


def submit(host, port, function, unique):
    client = connected(host, port)
    job = gear.Job(function, sys.stdin.buffer.read(), unique=unique)
    client.submitJob(job)
    if not client.over.wait(20):
        return {"outcome": "no answer"}
    status = [int(job.numerator), int(job.denominator)] if job.numerator is not None else None
    facts = {"data": client.parts, "warnings": client.warnings, "status": status}
    if job.exception is not None:
        return {"outcome": "exception", "result": job.exception, **facts}
    # It keeps the result with what came as data and warnings.
    result = b"".join(job.data[len(client.parts) + len(client.warnings) :])
    return {"outcome": "failed" if job.failure else "done", "result": result, **facts}


def background(host, port, function, unique):
    client = connected(host, port)
    job = gear.Job(function, b"x", unique=unique)
    client.submitJob(job, background=True)
    statuses = []
    connection = client.active_connections[0]
    while len(statuses) < 80:
        packet = gear.Packet(gear.constants.REQ, gear.constants.GET_STATUS, job.handle)
        client.sendPacket(packet, connection)
        time.sleep(0.1)
        statuses.append(
            [
                int(job.known or 0),
                int(job.running or 0),
                int(job.numerator or 0),
                int(job.denominator or 0),
            ]
        )
        if len(statuses) > 2 and not statuses[-1][0]:
            break
    return {"outcome": "queued", "statuses": statuses}


def text(value):
    return base64.b64encode(value).decode()


if __name__ == "__main__":
    role, host, port, *arguments = sys.argv[1:]
    run = {"worker": work, "client": submit, "background": background}[role]
    json.dump(run(host, int(port), *arguments), sys.stdout, default=text)
    sys.stdout.flush()
    os._exit(0)  # its threads would take a second to leave
