"""Jobs that flow through the cluster while the tests do their worst, and what became of them."""

import collections
import functools
import json
import subprocess
import time

import pytest

PYTHON = "/opt/gearvisor/venv/bin/python"
WORKERS, SERVERS = ("worker1", "worker2"), ("job1", "job2")
LOCAL = ("127.0.0.1:4740", "127.0.0.1:4741")
# Of load.py, and what a busy machine may add.
TIMEOUT, SLACK = 8, 20
# What a client may get: no server, no answer in time, or that a server takes no jobs just now.
CLEAR = ("ServerUnavailable: ", "JobTimeout: ", "SubmitError: QUEUE_ERROR")


class Load:
    """Jobs from worker hosts for as long as the block runs; then each is accounted for."""

    def __init__(self, lab, seconds, clients=WORKERS):
        self.lab = lab
        self.seconds = seconds
        self.hosts = clients

    def __enter__(self):
        self.clients = []
        for name in WORKERS:
            self.lab[name].check_output("rm -rf /srv/cluster/done/* /tmp/stop")
        for name in self.hosts:
            argv = ["podman", "exec", "--workdir", "/srv/cluster", self.lab.container(name)]
            argv += [PYTHON, "load.py", "/tmp/stop", *LOCAL]
            self.clients.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
        self.started = time.monotonic()
        time.sleep(2)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            time.sleep(max(0.0, self.started + self.seconds - time.monotonic()))
        for name in self.hosts:
            self.lab[name].check_output("touch /tmp/stop")
        outputs = [client.communicate(timeout=120)[0] for client in self.clients]
        if kind is None:
            self.account([json.loads(output) for output in outputs])

    def account(self, all_counts):
        self.lab.wait_until(lambda: not any(map(self.jobs_left, SERVERS)))
        done = collections.Counter(
            name
            for host in WORKERS
            for name in self.lab[host].check_output("cat /srv/cluster/done/*").split()
        )
        self.counts = counts = {
            kind: [each for counts in all_counts for each in counts[kind]]
            for kind in ("accepted", "refused", "answered", "failed")
        }
        longest = max(counts["longest"] for counts in all_counts)
        twice = sum(number > 1 for number in done.values())
        figures = ", ".join(f"{len(values)} {kind}" for kind, values in counts.items())
        print(f"{figures}; {len(done)} jobs done, {twice} of them again; longest {longest:.1f} s")
        reasons = collections.Counter(counts["refused"] + counts["failed"])
        print(*(f"  {number} x {reason}" for reason, number in reasons.items()), sep="\n")
        assert len(counts["accepted"]) > 50 and len(counts["answered"]) > 50
        assert set(counts["accepted"]) - set(done) == set()
        assert set(counts["answered"]) - set(done) == set()
        assert longest < TIMEOUT + SLACK
        for reason in reasons:
            assert reason.startswith(CLEAR), reason

    def jobs_left(self, server):
        """Return whether the server still has jobs of this test; it must answer."""
        ask = "python3 /srv/cluster/knock.py 127.0.0.1 4730 plain status"
        status = self.lab[server].check_output(ask)
        for line in status.splitlines():
            name, *numbers = line.split("\t")
            if name == "record":
                return int(numbers[0]) > 0
        return False


@pytest.fixture
def load(lab):
    return functools.partial(Load, lab)
