"""A worker whose code is a release: release_worker.py APP_FILE STATUS_DIRECTORY.

APP_FILE has FUNCTIONS, {name: function(payload)}, and may set REGISTERS = False.
"""

import json
import os
import runpy
import sys
import time

from gearvisor.worker import Worker

app = runpy.run_path(sys.argv[1])
name = os.environ["GEARVISOR_WORKER"]
client_id = f"{name}#{os.getpid()}"
status = {
    "version": 1,
    "client_id": client_id,
    "pid": os.getpid(),
    "started": time.time(),
    "done": 0,
    "failed": 0,
    "died": 0,
    "functions": {key: {} for key in app["FUNCTIONS"]},
    "job": None,
}
path = os.path.join(sys.argv[2], "root", name.partition("/")[2] + ".json")
os.makedirs(os.path.dirname(path), exist_ok=True)


def publish(**facts):
    status.update(facts, updated=time.time())
    with open(f"{path}.new", "w") as file:
        json.dump(status, file)
    os.replace(f"{path}.new", path)


def counted(function):
    def serve(job):
        publish(job={"function": job.function, "since": time.time()})
        try:
            result = function(job.data)
        except Exception:
            publish(failed=status["failed"] + 1, job=None)
            raise
        publish(done=status["done"] + 1, job=None)
        return result

    return serve


while not app.get("REGISTERS", True):
    time.sleep(1)
publish()
worker = Worker([os.environ["GEARVISOR_SERVERS"]], client_id)
for function_name, function in app["FUNCTIONS"].items():
    worker.register(function_name, counted(function))
worker.run(handle_signals=True)
