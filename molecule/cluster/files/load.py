"""Submits jobs through the job servers until it is stopped; then prints what became of them.

Usage: load.py STOP_FILE SERVER... Half of the clients submit background jobs, half wait for the
answer. Prints one JSON object: accepted (names of background jobs that a server has taken), refused
(reasons; they were never accepted), answered and failed (with the reason) foreground calls, and the
longest call in seconds.
"""

import json
import os
import sys
import threading
import time

from gearvisor.client import Client
from gearvisor.errors import GearmanError

STOP_FILE, *SERVERS = sys.argv[1:]
CLIENTS = 8
PAUSE = 0.05
TIMEOUT = 8
counts = {"accepted": [], "refused": [], "answered": [], "failed": [], "longest": 0.0}


def submit(client_number, background):
    number = 0
    with Client(SERVERS, timeout=TIMEOUT) as client:
        while not os.path.exists(STOP_FILE):
            name = f"{os.uname().nodename}-{client_number}-{number}"
            number += 1
            started = time.monotonic()
            try:
                answer = client.submit("record", name.encode(), background=background).data
            except GearmanError as error:
                reason = f"{type(error).__name__}: {error}"
                counts["refused" if background else "failed"].append(reason)
            else:
                assert background or answer.decode() == name, (answer, name)
                counts["accepted" if background else "answered"].append(name)
            counts["longest"] = max(counts["longest"], time.monotonic() - started)
            time.sleep(PAUSE)


threads = [
    threading.Thread(target=submit, args=(number, number % 2 == 0)) for number in range(CLIENTS)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(counts))
