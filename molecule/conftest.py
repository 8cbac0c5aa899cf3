"""The fixtures that the tests of all scenarios share.

A test that takes `host` runs once for each host of its scenario, through testinfra's ssh backend
(Ansible's takes seconds a test). `pytest.mark.on("trixie")`, with names of hosts or
groups, keeps a test or a module to those. `pytest.mark.slow` leaves a test to runs with the
environment variable GEARVISOR_TEST_ALL. `lab` gives the hosts by name, restarts them and runs
Ansible on them.
"""

import contextlib
import functools
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import testinfra

MOLECULE = Path(__file__).resolve().parent
SSH = {
    "ssh_config": str(MOLECULE / "shared/ssh_config"),
    "controlpath": str(Path("~/.ansible/cp/gearvisor-%%C").expanduser()),
}


def run_ansible(command, *arguments):
    """Run one of Ansible's commands as molecule does: same inventory, same directory."""
    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    sources = [
        f"--inventory={place / 'inventory.yml'}" for place in (MOLECULE / "shared", scenario)
    ]
    return subprocess.run(
        [command, *sources, *arguments],
        cwd=MOLECULE.parent,
        # molecule forces colours, which JSON does not have.
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
    )


@functools.cache
def inventory():
    return json.loads(run_ansible("ansible-inventory", "--list").stdout)


class Lab:
    """The hosts of the scenario that is being verified."""

    def __init__(self):
        self.network = "gearvisor-" + os.environ["MOLECULE_SCENARIO_NAME"]

    def __getitem__(self, name):
        return testinfra.get_host(f"ssh://{self.container(name)}", **SSH)

    def container(self, name):
        return f"{self.network}-{name}"

    def variables(self, name):
        """The host's inventory variables, as they are written there."""
        return inventory()["_meta"]["hostvars"][name]

    def restart(self, name):
        """Restart a host and return when it has booted."""
        subprocess.run(["podman", "restart", self.container(name)], check=True, stdout=-1)
        if self.variables(name)["container_systemd"]:
            booted = "systemctl is-system-running --wait"
        else:
            booted = "pgrep --parent 1 --exact sleep"
        self.wait_until(lambda: self._answers(name, booted))

    def _answers(self, name, command):
        try:
            return self[name].run(command).rc == 0
        except RuntimeError:  # ssh itself failed: the host does not take connections yet
            return False

    @contextlib.contextmanager
    def without_packages(self, name):
        """While it lasts, the host's apt reaches no archive and has none of the packages that the lab keeps."""
        host, off, empty = self[name], "/etc/apt/apt.conf.d/off", "/root/no-packages"
        settings = f'Acquire::http::Proxy "http://127.0.0.1:9"; Acquire::Retries "0"; Dir::Cache::Archives "{empty}";'
        host.check_output("mkdir -p %s && echo %s >%s", f"{empty}/partial", settings, off)
        try:
            yield
        finally:
            host.check_output("rm -r %s %s", off, empty)

    def play(self, playbook, *arguments, succeeds=True):
        """Run a playbook of this checkout; return ({host: {"changed": number, ...}}, its output)."""
        done = run_ansible("ansible-playbook", *arguments, playbook)
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        _tasks, _heading, recap = done.stdout.rpartition("PLAY RECAP")
        return {
            line.split()[0]: {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", line)}
            for line in recap.splitlines()[1:]
            if line.strip()
        }, done.stdout + done.stderr

    def module(self, name, module, arguments):
        """Run one module on a host; return its result, of success or failure.

        Ansible takes the warnings out of it; they are put back, as the text that it prints.
        """
        command = ["--module-name", module, "--args", json.dumps(arguments)]
        done = run_ansible("ansible", name, *command)
        _host, arrow, result = done.stdout.partition(" => ")
        assert arrow, done.stdout + done.stderr
        return {**json.loads(result), "failed": done.returncode != 0, "warnings": done.stderr}

    @staticmethod
    def wait_until(condition, seconds=60):
        """Try until the condition holds, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not so within {seconds} seconds"
            time.sleep(0.2)
        return value


@pytest.fixture(scope="session")
def lab():
    return Lab()


# Takes the place of testinfra's own fixture of that name.
@pytest.fixture(scope="module")
def host(request, lab):
    return lab[request.param]


def pytest_configure(config):
    config.addinivalue_line("markers", "on(*names): run on these hosts or groups only")
    config.addinivalue_line("markers", "slow: left out unless GEARVISOR_TEST_ALL is set")


def pytest_collection_modifyitems(items):
    if os.environ.get("GEARVISOR_TEST_ALL"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: GEARVISOR_TEST_ALL is not set"))


def pytest_terminal_summary(terminalreporter):
    """Show what tests that passed have counted, too."""
    for report in terminalreporter.getreports("passed"):
        if report.when == "call" and report.capstdout:
            terminalreporter.write_line(f"{report.nodeid}:\n{report.capstdout.rstrip()}")


def pytest_generate_tests(metafunc):
    if "host" in metafunc.fixturenames:
        names = inventory()["_meta"]["hostvars"]
        for mark in metafunc.definition.iter_markers("on"):
            chosen = set(mark.args).union(
                *(inventory().get(name, {}).get("hosts", []) for name in mark.args)
            )
            names = [name for name in names if name in chosen]
        metafunc.parametrize("host", names, indirect=True)
