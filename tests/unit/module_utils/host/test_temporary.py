import os
import subprocess
import sys
import tempfile

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import temporary

KILLED = """
import os, sys, tempfile
sys.path.insert(0, sys.argv[1])
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import temporary
with temporary.directory(), tempfile.NamedTemporaryFile() as file:
    print(file.name, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_what_a_block_makes_is_gone_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary.directory() as path, tempfile.NamedTemporaryFile() as file:
        assert file.name.startswith(f"{path}/")
        assert os.stat(path).st_mode & 0o777 == 0o711
        temporary.remove_abandoned([str(tmp_path)])
        assert os.path.exists(file.name)
    assert list(tmp_path.iterdir()) == []
    assert tempfile.gettempdir() == str(tmp_path)


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    collections = next(entry for entry in sys.path if entry.endswith(".ansible/collections"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, collections],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    left = done.stdout.strip()
    assert left.startswith(str(tmp_path))
    assert os.path.exists(left)
    for name in ("gearvisor-run-x", "gearvisor-other", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / "gearvisor-run-1-1-link").symlink_to(tmp_path / "theirs")
    temporary.remove_abandoned([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gearvisor-other",
        "gearvisor-run-1-1-link",
        "gearvisor-run-x",
        "theirs",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_another_users_directory_is_left(tmp_path):
    (tmp_path / "gearvisor-run-1-1-x").mkdir()
    os.chown(tmp_path / "gearvisor-run-1-1-x", 65534, 65534)
    temporary.remove_abandoned([str(tmp_path)])
    assert (tmp_path / "gearvisor-run-1-1-x").exists()
