# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submits jobs of all kinds and reports what comes out. Run on the job server's host.

    load.py submit NUMBER       background jobs of mixed priority, each with a different payload;
                                NUMBER may be 0, to see whether gearmand answers; stops at the
                                first that is refused
    load.py work                do jobs until none is left; report each
    load.py flow STOP           foreground and background jobs over kept connections until the file
                                STOP is there, and a worker for them; report what was taken and done

Each prints one JSON document.
"""

import json
import os
import sys
import threading
import time

from gearvisor.admin import Admin
from gearvisor.client import PRIORITIES, Client
from gearvisor.connection import Connection
from gearvisor.errors import GearmanError, ServerUnavailable, SubmitError
from gearvisor.protocol import Packet, encode
from gearvisor.worker import Worker

HOST, PORT = "127.0.0.1", 4730
SERVER = f"{HOST}:{PORT}"
FUNCTIONS = ("flow0", "flow1", "flow2")


def submit(number):
    with Admin(SERVER) as admin:
        admin.version()
    with Client([SERVER], timeout=60) as client:
        for index in range(number):
            priority = PRIORITIES[index % 3]
            # Not all payloads are text.
            payload = f"{index:05d}".encode() + bytes([index % 256, 0, 255])
            try:
                client.submit(
                    "load-test",
                    payload,
                    background=True,
                    priority=priority,
                    unique=f"{priority}-{index}",
                )
            except SubmitError as error:
                return {"submitted": index, "refused": str(error)}
    return {"submitted": number}


def work():
    """Take jobs as a worker does, but see their order: of a function, high ones come first."""
    connection = Connection(HOST, PORT, 60)
    names = ("load-test", "load", "test")
    connection.send(b"".join(encode(Packet.CAN_DO, name.encode()) for name in names))
    jobs = []
    try:
        while True:
            connection.send(encode(Packet.GRAB_JOB_UNIQ))
            kind, arguments = connection.receive(60)
            if kind == Packet.NO_JOB:
                break
            if kind == Packet.JOB_ASSIGN_UNIQ:
                handle, function, unique, payload = arguments
                connection.send(encode(Packet.WORK_COMPLETE, handle, b""))
                jobs.append((function.decode(), unique.decode(), payload.hex()))
        connection.finish(5)
    except GearmanError as error:
        return {"jobs": jobs, "error": str(error)}
    return {"jobs": jobs}


class Flow(threading.Thread):
    """One client's jobs over one connection, in the background or not."""

    def __init__(self, function, background, stop):
        super().__init__(daemon=True)
        self.function, self.background, self.stop = function, background, stop
        self.accepted, self.refused, self.cut = [], 0, 0

    def run(self):
        number = 0
        with Client([SERVER], timeout=20) as client:
            while not os.path.exists(self.stop):
                unique = f"{self.name}-{number}"
                number += 1
                try:
                    client.submit(self.function, b"x", background=self.background, unique=unique)
                    self.accepted.append(unique)
                except SubmitError:
                    self.refused += 1
                except ServerUnavailable:
                    self.cut += 1
                    time.sleep(0.1)
                time.sleep(0.01)


def flow(stop):
    done = []

    def do(job):
        time.sleep(0.002)
        done.append(job.unique)
        return b"y"

    worker = Worker([SERVER])
    for function in FUNCTIONS:
        worker.register(function, do)
    threading.Thread(target=worker.run, daemon=True).start()
    flows = [Flow(function, bg, stop) for function in FUNCTIONS for bg in (True, False)]
    for each in flows:
        each.start()
    for each in flows:
        each.join()
    # What was accepted last.
    time.sleep(2)
    accepted = [unique for each in flows for unique in each.accepted]
    return {
        "accepted": len(accepted),
        "lost": sorted(set(accepted) - set(done)),
        "unanswered": len(set(done) - set(accepted)),
        "repeated": len(done) - len(set(done)),
        "refused": sum(each.refused for each in flows),
        "cut": sum(each.cut for each in flows),
    }


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    try:
        if command == "submit":
            result = submit(int(*arguments))
        elif command == "work":
            result = work()
        else:
            result = flow(*arguments)
    except GearmanError as error:
        result = {"error": str(error)}
    print(json.dumps(result))
    sys.exit("error" in result)
