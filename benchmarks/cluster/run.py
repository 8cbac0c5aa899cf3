#!/usr/bin/env python3
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""./run bench cluster: how a cluster's throughput and its provisioning grow with its hosts.

docs/benchmarks.md describes what is measured and why. The figures go into this directory.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import many
import yaml
from lab import ROOT, Lab, circumstances, log, numbers
from report import write

HERE = Path(__file__).resolve().parent
FUNCTION = "noop"
# A worker's program; /srv/bench is where it finds the function.
WORKER = "/opt/gearvisor/venv/bin/gearvisor worker --log-level error bench:noop"

# Runs on a worker host: the module that the workers serve.
MODULE = "def noop(job):\n    return b''\n"

# Runs on a worker host: queues jobs through one job server; prints the seconds it took.
SUBMIT = """
import sys, time
from gearvisor.client import Client
server, function, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Client([server]) as client:
    started = time.perf_counter()
    for each in range(number):
        client.submit(function, b"x" * 10, background=True)
    print(time.perf_counter() - started)
"""

# Runs on a job server's host: waits until jobs are done; prints at which times which number was
# left. The middle is what counts: workers come up one after another, and end one after another.
WATCH = """
import json, socket, sys, time
function, seen = sys.argv[1], []
with socket.create_connection(("127.0.0.1", 4730)) as server, server.makefile() as lines:
    while not seen or seen[-1][1]:
        server.sendall(b"status\\r\\n")
        left = 0
        for line in lines:
            if line == ".\\n":
                break
            name, total = line.split("\\t")[:2]
            if name == function:
                left = int(total)
        seen.append((time.monotonic(), left))
        time.sleep(0.005)
print(json.dumps(seen))
"""


def inventory(size):
    """Return the inventory of a cluster of so many hosts, of both Debian releases in turn.

    One host is all at once, two are a job server and a worker host, and of more two are job servers.
    """
    names = ["both1"] if size == 1 else []
    servers = 1 if size < 4 else 2
    if size > 1:
        names = [f"job{number + 1}" for number in range(servers)]
        names += [f"worker{number + 1}" for number in range(size - servers)]
    hosts = {
        name: {"container_image": ("bookworm", "trixie")[number % 2]}
        for number, name in enumerate(names)
    }
    settings = {"container_systemd": True, "container_options": "--cap-add NET_ADMIN"}
    in_group = {name: None for name in names[:servers]}
    shared = {"gearman_tunnel_state": "present", "gearman_firewall_state": "present"}
    workers = {
        "hosts": {name: None for name in names[servers:] or names},
        "vars": worker_variables(),
    }
    return {
        "lab": {"hosts": hosts, "vars": settings if size == 1 else {**settings, **shared}},
        "gearman_job_servers": {"hosts": in_group},
        "gearman_workers": workers,
    }


def worker_variables():
    """Return those of inventory/localhost.yml, which is what everybody begins with."""
    example = yaml.safe_load((ROOT / "inventory/localhost.yml").read_text())
    return example["all"]["children"]["gearman_workers"]["vars"]


class Cluster:
    """A lab of so many hosts."""

    def __init__(self, size):
        self.size = size
        self.inventory = inventory(size)
        self.hosts = list(self.inventory["lab"]["hosts"])
        self.servers = list(self.inventory["gearman_job_servers"]["hosts"])
        self.workers = list(self.inventory["gearman_workers"]["hosts"])

    @contextlib.contextmanager
    def made(self):
        """Have the hosts for as long as the block runs."""
        with tempfile.TemporaryDirectory() as scratch:
            self.inventory["lab"]["vars"]["gearman_tunnel_ca_directory"] = f"{scratch}/gearman-ca"
            path = Path(scratch, "hosts.json")
            path.write_text(json.dumps(self.inventory))
            self.lab = Lab(scratch, path, "bench-cluster")
            try:
                log(f"Making {self.size} hosts")
                self.lab.create()
                yield self
            finally:
                self.lab.destroy()

    def site(self, rounds):
        """Return how long site.yml takes, first and with nothing to change."""
        first, changed, _output = self.lab.play(ROOT / "site.yml")
        again = []
        for _round in range(rounds):
            seconds, changed, output = self.lab.play(ROOT / "site.yml")
            if changed:
                raise SystemExit(f"site.yml changed something:\n{output}")
            again.append(seconds)
        log(f"{self.size} hosts: first {first:.1f} s, then {statistics.median(again):.1f} s")
        return {
            "hosts": self.size,
            "job_servers": len(self.servers),
            "first": round(first, 2),
            "unchanged": [round(seconds, 2) for seconds in again],
        }

    def prepare_jobs(self):
        """Make room: only the workers of the benchmark run."""
        for host in self.workers:
            self.lab.shell(
                host,
                "supervisorctl stop all >/dev/null; mkdir -p /srv/bench && cat >/srv/bench/bench.py",
                MODULE,
            )

    def address(self, server):
        """Return where a worker host finds that job server: its tunnel's end."""
        return f"127.0.0.1:{4740 + self.servers.index(server)}"

    def throughput(self, servers, workers, jobs):
        """Return jobs a second, queued and done, of so many job servers and workers."""
        chosen = self.servers[:servers]
        known = " ".join(f"--server {self.address(server)}" for server in chosen)
        for number in range(workers):
            self.lab.shell(
                self.workers[number % len(self.workers)],
                f"cd /srv/bench && ({WORKER.replace(' bench:', f' {known} bench:')} "
                "</dev/null >/dev/null 2>&1 & echo $! >>pids)",
            )
        try:
            time.sleep(1)  # until they are registered
            self._signal("STOP")
            submitted = self._queue(chosen, jobs // servers)
            watching = [self.lab.start(each, "python3", "-c", WATCH, FUNCTION) for each in chosen]
            time.sleep(1)  # until they look
            self._signal("CONT")
            seen = [json.loads(each.communicate(timeout=600)[0]) for each in watching]
        finally:
            self._signal("KILL")
            for host in self.workers:
                self.lab.shell(host, "rm -f /srv/bench/pids")
        rate = sum(map(middle_rate, seen))
        log(f"{servers} job servers, {workers} workers: {rate:.0f} jobs a second")
        return {
            "job_servers": servers,
            "workers": workers,
            "done": round(rate, 1),
            "queued": round(jobs / sum(submitted), 1),
        }

    def _queue(self, servers, jobs):
        """Queue so many jobs on each job server; return the seconds each took."""
        command = [self.workers[0], "/opt/gearvisor/venv/bin/python", "-c", SUBMIT]
        return [
            float(self.lab.run(*command, self.address(server), FUNCTION, str(jobs)))
            for server in servers
        ]

    def _signal(self, name):
        """Send all workers a signal, on all hosts at once."""
        script = f"cd /srv/bench && [ ! -e pids ] || kill -{name} $(cat pids)"
        for process in [self.lab.start(host, "sh", "-c", script) for host in self.workers]:
            process.communicate()


def middle_rate(seen):
    """Return jobs a second between a tenth and nine tenths of the way; *seen*: [(time, left)]."""
    whole = seen[0][1]
    middle = [(when, left) for when, left in seen if 0.1 * whole <= left <= 0.9 * whole]
    if len(middle) < 2:
        raise SystemExit(f"--jobs: {whole} on a job server were done too fast to be measured")
    (first, most), (last, least) = middle[0], middle[-1]
    return (most - least) / (last - first)


def arguments():
    parser = argparse.ArgumentParser(prog="./run bench cluster", description=__doc__)
    parser.add_argument(
        "--hosts", type=numbers, default=[1, 2, 4, 8], help="for site.yml, as in 1,2 (%(default)s)"
    )
    parser.add_argument(
        "--workers", type=numbers, default=[1, 2, 4, 8], help="for the jobs (%(default)s)"
    )
    parser.add_argument(
        "--many", type=int, default=25, help="twins of one host, 0 for none (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=20000, help="to be done (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (%(default)s)")
    parser.add_argument("--results", type=Path, default=HERE, help="directory (%(default)s)")
    return parser.parse_args()


def main():
    options = arguments()
    # So that the containers go, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    result = {**circumstances("cluster"), "jobs": options.jobs, "site": [], "throughput": []}
    # One host has no tunnel.
    with_tunnel = [size for size in options.hosts if size > 1]
    measured = min(with_tunnel, key=lambda size: abs(size - 4), default=None)
    for size in options.hosts:
        with Cluster(size).made() as cluster:
            result["site"].append(cluster.site(options.rounds))
            if size == measured:
                cluster.prepare_jobs()
                for _round in range(options.rounds):
                    for servers in range(1, len(cluster.servers) + 1):
                        for workers in options.workers:
                            sample = cluster.throughput(servers, workers, options.jobs)
                            result["throughput"].append(sample)
    result["many"] = options.many
    result["twins"] = many.measure(options.many, worker_variables()) if options.many else []
    result["load_after"] = os.getloadavg()
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "cluster.json").write_text(json.dumps(result, indent=2) + "\n")
    write(result, options.results)
    print((options.results / "cluster.md").read_text())


if __name__ == "__main__":
    main()
