"""A real supervisord on a separate socket, with the keeper's program in it."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import fleet, rpc

CONFIG = """\
[unix_http_server]
file={directory}/s.sock
chmod=0700

[supervisord]
nodaemon=true
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[include]
files = {directory}/conf.d/*.conf
"""


def run(argv, data=None, **_options):
    done = subprocess.run(argv, input=data, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def where():
    """The fleet.Host of a supervisord that runs as long as the test."""
    # A unix socket's path must be short, shorter than tmp_path is.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="gv", dir="/tmp"))
    directory.chmod(0o755)
    (directory / "conf.d").mkdir()
    config = directory / "supervisord.conf"
    config.write_text(CONFIG.format(directory=directory))
    executable = pathlib.Path(sys.executable).with_name("supervisord")
    child = subprocess.Popen(
        [executable, "--configuration", config],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    supervisord = rpc.Supervisord(str(directory / "s.sock"))
    supervisord.wait_ready(120)
    yield fleet.Host(run, str(config), str(directory / "conf.d"), str(executable))
    # It ends its programs, too.
    child.terminate()
    child.wait(60)
    shutil.rmtree(directory)
