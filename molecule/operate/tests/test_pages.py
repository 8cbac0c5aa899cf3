"""The commands of docs/troubleshooting.md do on a host what the page says."""

import json
import re
import runpy
from pathlib import Path

import pytest

GEARVISOR = "/opt/gearvisor/venv/bin/gearvisor"
ROOT = Path(__file__).resolve().parents[3]
PAGE = runpy.run_path(str(ROOT / "tests/unit/docs/pages.py"))
# What the page leaves open, and this host's names for it.
NAMES = {"HOST:PORT": "127.0.0.1:4730", "mail_03": "mail_01", "resize": "py_fail", "F": "py_fail"}
COMMANDS = [
    line.removeprefix("$ ").partition("  ")[0]
    for language, text, _line in PAGE["fenced"](ROOT / "docs/troubleshooting.md")
    if language == "console"
    for line in text.splitlines()
    # Playbooks are run by the scenarios; a container has no kernel log of its own.
    if line.startswith(("$ gearvisor", "$ supervisorctl", "$ systemctl"))
]


def failed_jobs(host):
    return json.loads(host.check_output(f"{GEARVISOR} failed list --json"))["entries"]


@pytest.fixture
def failed_job(host, lab):
    """A job that failed because of what has been mended since."""
    host.check_output(f"{GEARVISOR} resume --all")
    host.check_output("touch /tmp/broken")
    host.check_output(f"{GEARVISOR} submit --background py_fail x")
    (entry,) = lab.wait_until(lambda: failed_jobs(host))
    host.check_output("rm /tmp/broken")
    yield entry
    host.check_output(f"{GEARVISOR} resume --all")
    host.check_output(f"{GEARVISOR} failed drop --all")
    lab.wait_until(lambda: host.run("supervisorctl status").rc == 0)


def test_the_page_has_commands():
    assert len(COMMANDS) > 12


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works(host, failed_job, command):
    names = {**NAMES, "ID": failed_job["id"], "U": failed_job["unique"]}
    words = re.sub(rf"(?<![\w-])({'|'.join(names)})(?![\w-])", lambda m: names[m[1]], command)
    host.check_output(re.sub(r"^gearvisor", GEARVISOR, words))
    if "failed retry" in command and "cancelled" not in command:
        assert not failed_jobs(host), "it was submitted again"
    if "failed drop" in command:
        assert not failed_jobs(host)
