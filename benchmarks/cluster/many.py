# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run costs per host, on the control node and on the host apart: a fleet of twins of one host.

One host is converged, its container is committed, and the others are started from that. So what apt and pip
would do is left out, and everything else is real: connections, modules, Supervisor, gearmand, workers.
"""

import contextlib
import json
import os
import resource
import subprocess
import tempfile
from pathlib import Path

from lab import ROOT, Lab, log

SCENARIO = "bench-many"
IMAGE = f"localhost/gearvisor-{SCENARIO}"
FORKS = (5, 10, 25)


def inventory(names, variables):
    """Return the inventory of these hosts, each of them job server and worker host."""
    hosts = {name: None for name in names}
    return {
        "lab": {
            "hosts": {
                name: {"container_image": "bookworm", "container_systemd": False} for name in names
            },
            "vars": {"gearman_servers": ["127.0.0.1:4730"]},
        },
        "gearman_job_servers": {"hosts": hosts},
        "gearman_workers": {"hosts": hosts, "vars": variables},
    }


def measure(number, variables):
    """Return the figures of runs that change nothing on so many hosts: [{forks, strategy, seconds, ...}]."""
    with fleet(number, variables) as lab:
        # Each twin's workers get its name.
        lab.play(ROOT / "site.yml")
        return [
            run(lab, number, forks, strategy) for strategy in ("linear", "free") for forks in FORKS
        ]


@contextlib.contextmanager
def fleet(number, variables):
    """Have the lab with so many twins of one host for as long as the block runs."""
    names = [f"twin{index:02d}" for index in range(number)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "hosts.json")
        lab = Lab(scratch, path, SCENARIO)
        path.write_text(json.dumps(inventory(names[:1], variables)))
        try:
            log(f"Making {number} twins of one host")
            lab.create()
            lab.play(ROOT / "site.yml")
            first = lab.container(names[0])
            lab.shell(names[0], "service supervisor stop >/dev/null")
            lab.podman("commit", "--quiet", first, IMAGE)
            path.write_text(json.dumps(inventory(names, variables)))
            lab.podman("restart", first)
            options = podman_options(lab, first)
            for name in names[1:]:
                lab.podman("run", "--detach", "--name", lab.container(name), "--hostname", name,
                           "--network", f"gearvisor-{SCENARIO}", *options, IMAGE, "/sbin/plain-init")  # fmt: skip
            yield lab
        finally:
            lab.destroy()
            subprocess.run(["podman", "rmi", "--force", IMAGE], capture_output=True)


def podman_options(lab, container):
    """Return the limits with which that container was started: see molecule/images/podman-options."""
    (found,) = json.loads(lab.podman("inspect", container))
    words = found["Config"]["CreateCommand"]
    return [word for word in words if word.startswith(("--ulimit", "--runtime"))]


def run(lab, number, forks, strategy):
    """Run site.yml once; return its wall time, and the processor time here and on the hosts."""
    os.environ.update(ANSIBLE_FORKS=str(forks), ANSIBLE_STRATEGY=strategy)
    before = used()
    seconds, changed, output = lab.play(ROOT / "site.yml")
    if changed:
        raise SystemExit(f"site.yml changed something:\n{output}")
    here, everywhere = (after - start for start, after in zip(before, used()))
    figures = {
        "forks": forks,
        "strategy": strategy,
        "seconds": round(seconds, 1),
        "here": round(here / number, 2),
        "on_host": round((everywhere - here) / number, 2),
    }
    log(f"{number} hosts, {forks} forks, {strategy}: {figures}")
    return figures


def used():
    """Return the processor time used by our children and by the whole machine, in seconds."""
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, *interrupts = map(int, fields[:7])
    busy = (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
    return ours.ru_utime + ours.ru_stime, busy
