# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each part of site.yml can be run alone by its tag, as docs/operations.md lists them."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# By tag: what it runs, and what it leaves out.
TAGS = {
    "workers": (
        ["gearman_php", "gearman_python", "Converge the worker programs"],
        ["gearman_job_server"],
    ),
    "php": (["gearman_php"], ["gearman_python", "Converge the worker programs"]),
    "python": (["gearman_python"], ["gearman_php", "Converge the worker programs"]),
    "programs": (["Converge the worker programs"], ["gearman_php :", "gearman_python :"]),
    "job_servers": (["gearman_job_server"], ["gearman_php", "Watch"]),
    "firewall": (["Let only hosts of the inventory in"], ["gearman_job_server :", "gearman_php"]),
    "tunnel": (["Set up the tunnel"], ["gearman_job_server", "gearman_php"]),
    "monitoring": (["Serve metrics and the status page"], ["gearman_php", "gearman_job_server"]),
    "verify": (["TAGS: [verify"], ["gearman_php", "gearman_job_server"]),
}


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_runs_its_part_alone(tag):
    done = subprocess.run(
        ["ansible-playbook", "--list-tasks", f"--tags={tag}", "playbooks/site.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # Ansible itself checks the arguments of all roles, whatever the tags.
    tasks = "\n".join(
        line for line in done.stdout.splitlines() if "Validating arguments" not in line
    )
    tasks = tasks.partition("Look for Gearvisor")[2]
    tasks = "\n".join(re.findall(r"(?m)^ {6}(.*)$", tasks))
    runs, leaves_out = TAGS[tag]
    for words in runs:
        assert words in tasks, tasks
    for words in leaves_out:
        assert words not in tasks, tasks


def test_the_page_lists_them_all():
    page = (ROOT / "docs/operations.md").read_text()
    (paragraph,) = re.findall(r"A run can be kept to a part: (.*?)\n\n", page, re.S)
    named = set(re.findall(r"`(?:\./run site --tags )?([a-z_]+)`", paragraph))
    assert named == set(TAGS)
