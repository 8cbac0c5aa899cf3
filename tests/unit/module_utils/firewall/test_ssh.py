# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each source of the ports of SSH is used, whatever the others report."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.firewall import ssh
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host

SILENT = (1, "", "not found")


def host(tmp_path, answers=None, systemd=True):
    if systemd:
        (tmp_path / "run/systemd/system").mkdir(parents=True)

    def run(argv, **_):
        return (answers or {}).get(argv[0], SILENT)

    return Host(run, root=str(tmp_path))


def test_what_sshd_is_configured_for(tmp_path):
    answer = (0, "port 2222\naddressfamily any\nlistenaddress [::]:2200\n", "")
    assert {22, 2222, 2200} <= ssh.ports_in_use(host(tmp_path, {"/usr/sbin/sshd": answer}))


@pytest.mark.parametrize("systemd", [True, False])
def test_what_a_socket_unit_listens_on(tmp_path, systemd):
    answer = (0, "Listen=0.0.0.0:2022 (Stream)\n\nListen=[::]:2023 (Stream)\n", "")
    found = ssh.ports_in_use(host(tmp_path, {"systemctl": answer}, systemd))
    assert ({2022, 2023} <= found) is systemd


def test_what_an_sshd_listens_on(tmp_path):
    """Here a Python with that name."""
    sshd = tmp_path / "sshd"
    shutil.copy(os.path.realpath(sys.executable), sshd)
    code = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen([sshd, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        port = int(process.stdout.readline())
        assert port in ssh.ports_in_use(host(tmp_path))
        process.communicate("\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert other.getsockname()[1] not in ssh.ports_in_use(host(tmp_path, systemd=False))


def test_where_this_run_came_in_although_sudo_dropped_it(tmp_path):
    """A shell that sshd started knows; the process below it, as below sudo, does not."""
    code = (
        "import sys, types\n"
        "from ansible_collections.gearvisor.gearvisor.plugins.module_utils.firewall import ssh\n"
        "print(ssh._of_this_run(types.SimpleNamespace(proc='/proc')))\n"
    )
    below = f'env --unset=SSH_CONNECTION {sys.executable} -c "$CODE"; true'
    environment = {
        **os.environ,
        "SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 2022",
        "CODE": code,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(["sh", "-c", below], env=environment, capture_output=True, text=True)
    assert "2022" in done.stdout, done.stderr
