"""Submits jobs, several at a time, until it is stopped; then prints what became of them.

Usage: load.py STOP_FILE. Every submitted job has a name of its own. Prints one JSON object:
submitted, answered (with its own name) and failed (with the reason); and as timeline, twice a second,
[seconds since the epoch, answered so far, failed so far, workers that run].
"""

import json
import os
import subprocess
import sys
import threading
import time

from gearvisor.client import Client
from gearvisor.errors import GearmanError

STOP_FILE = sys.argv[1]
CLIENTS = 8
counts = {"submitted": [], "answered": [], "failed": [], "timeline": []}


def submit(client_number):
    number = 0
    with Client(["127.0.0.1:4730"], timeout=120) as client:
        while not os.path.exists(STOP_FILE):
            name = f"{os.getpid()}-{client_number}-{number}"
            number += 1
            counts["submitted"].append(name)
            try:
                answer = client.submit("work", name.encode()).data.decode()
            except GearmanError as error:
                counts["failed"].append(f"{name}: {error}")
            else:
                counts["answered"].append(answer)


def watch():
    while not os.path.exists(STOP_FILE):
        status = subprocess.run(["supervisorctl", "status"], capture_output=True, text=True).stdout
        lines = [line.split() for line in status.splitlines() if line.startswith("resize")]
        running = len([words for words in lines if words[1] == "RUNNING"])
        numbers = [len(counts[name]) for name in ("answered", "failed")]
        counts["timeline"].append([time.time(), *numbers, running])
        time.sleep(0.5)


threads = [threading.Thread(target=watch)]
threads += [threading.Thread(target=submit, args=(number,)) for number in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
