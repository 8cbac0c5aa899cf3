# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts that the benchmarks run on: containers of molecule/shared, reached as described there."""

import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def log(text):
    print(f"==> {text}", flush=True)


class Lab:
    """The hosts of an inventory, as molecule/shared makes and destroys them.

    *scenario* is part of the containers' names. *scratch* is a directory for what is made here.
    """

    def __init__(self, scratch, inventory, scenario="bench"):
        self.scratch = Path(scratch)
        self.inventory = inventory
        self.scenario = scenario

    def container(self, host):
        return f"gearvisor-{self.scenario}-{host}"

    def create(self):
        """Recreate the hosts."""
        self.destroy()
        for playbook in ("create", "prepare"):
            self.playbook(ROOT / "molecule/shared" / f"{playbook}.yml")

    def destroy(self):
        self.playbook(ROOT / "molecule/shared/destroy.yml")

    def play(self, playbook, **variables):
        """Run a playbook; return (wall time in seconds, number of changed tasks, its output)."""
        path = self.scratch / "variables.json"
        path.write_text(json.dumps(variables))
        started = time.perf_counter()
        output = self.playbook(playbook, f"--extra-vars=@{path}")
        seconds = time.perf_counter() - started
        recap = output.rpartition("PLAY RECAP")[2]
        return seconds, sum(map(int, re.findall(r"changed=(\d+)", recap))), output

    def playbook(self, playbook, *arguments):
        """Run a playbook as molecule would, and return its output."""
        done = subprocess.run(
            [
                "ansible-playbook",
                f"--inventory={ROOT / 'molecule/shared/inventory.yml'}",
                f"--inventory={self.inventory}",
                *arguments,
                playbook,
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                "MOLECULE_PROJECT_DIRECTORY": str(ROOT),
                "MOLECULE_SCENARIO_NAME": self.scenario,
            },
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"{playbook} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def shell(self, host, script, text=""):
        return self.run(host, "sh", "-c", script, text=text)

    def run(self, host, *command, text=""):
        return self.podman("exec", "--interactive", self.container(host), *command, text=text)

    def start(self, host, *command):
        """Start a command and return its Popen."""
        argv = ["podman", "exec", self.container(host), *command]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def podman(*command, text=None):
        """Run podman; return what it prints."""
        return subprocess.run(
            ["podman", *command], input=text, check=True, stdout=subprocess.PIPE, text=True
        ).stdout


def circumstances(name):
    """Return what every result begins with: the command, the date and the machine."""
    core = subprocess.run(["ansible", "--version"], capture_output=True, text=True).stdout
    return {
        "command": " ".join([f"./run bench {name}", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "load_before": os.getloadavg(),
        "versions": {
            "ansible-core": re.search(r"core ([0-9.a-z]+)", core).group(1),
            "Python here": platform.python_version(),
            "kernel": platform.release(),
            "processors": os.cpu_count(),
        },
    }


def numbers(text):
    return [int(number) for number in text.split(",")]
