from __future__ import annotations

import subprocess
import time

from ansible_collections.gearvisor.gearvisor.plugins.module_utils.keeper.init_script import (
    InitScript,
)

PERL = "/usr/bin/perl"


def test_what_it_started_is_found_and_ended(tmp_path):
    pid_file = tmp_path / "pid"
    pid_file.write_text("1\n")
    started = subprocess.Popen([PERL, "-e", "sleep 600", "--", f"--pid-file={pid_file}"])
    script = InitScript("gearvisor-test", PERL, str(pid_file), None)
    try:
        # Popen returns while the kernel still prepares the program's command line.
        deadline = time.monotonic() + 60
        while script.process() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert script.process().pid == started.pid
        assert not script.enabled()
        script.remove()
        assert started.wait(60) == -15
    finally:
        started.kill()
        started.wait()
    assert script.process() is None
    assert not pid_file.exists()
    script.remove()
