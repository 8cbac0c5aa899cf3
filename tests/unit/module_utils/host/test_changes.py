import os
import signal
import subprocess
import sys
import textwrap

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import changes, journal
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.changes import ChangeSet
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.recovery import UNDO


@pytest.fixture
def host(tmp_path):
    (tmp_path / "etc").mkdir()
    return Host(None, root=str(tmp_path), module="test")


def tree(root):
    """What there is below root, as {path: (kind, content, mode)}."""
    result = {}
    for path in sorted(root.rglob("*")):
        state = changes.state_of(path)
        result[str(path.relative_to(root))] = (state.kind, state.data or state.target, state.mode)
    return result


def fill(host, root):
    """A set with one path of each kind of change; returns it."""
    (root / "etc/changed").write_text("old\n")
    (root / "etc/same").write_text("same\n")
    (root / "etc/same").chmod(0o644)
    (root / "etc/mode").write_text("mode\n")
    (root / "etc/mode").chmod(0o666)
    (root / "etc/goes").write_text("goes\n")
    (root / "etc/link").symlink_to("there")
    wanted = ChangeSet(host)
    wanted.want("/etc/changed", "new\n", 0o640)
    wanted.want("/etc/same", "same\n")
    wanted.want("/etc/mode", "mode\n", 0o600)
    wanted.want("/etc/goes", None)
    wanted.want("/etc/deep/er/made", b"\xff\n")
    wanted.want_link("/etc/link", "elsewhere")
    wanted.want_directory("/etc/directory", 0o750)
    return wanted


CHANGED = [
    "/etc/changed",
    "/etc/deep/er/made",
    "/etc/directory",
    "/etc/goes",
    "/etc/link",
    "/etc/mode",
]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0])
def test_applied(host, tmp_path, umask):
    wanted = fill(host, tmp_path)
    assert wanted.paths() == CHANGED
    old = os.umask(umask)
    try:
        with wanted.applied():
            pass
    finally:
        os.umask(old)
    assert tree(tmp_path / "etc") == {
        "changed": ("file", b"new\n", 0o640),
        "deep": ("directory", None, 0o755),
        "deep/er": ("directory", None, 0o755),
        "deep/er/made": ("file", b"\xff\n", 0o644),
        "directory": ("directory", None, 0o750),
        "link": ("link", "elsewhere", None),
        "mode": ("file", b"mode\n", 0o600),
        "same": ("file", b"same\n", 0o644),
    }
    assert not list((tmp_path / "var/lib/gearvisor/journal").iterdir())
    again = ChangeSet(host)
    again.want("/etc/changed", "new\n", 0o640)
    again.want("/etc/goes", None)
    again.want_link("/etc/link", "elsewhere")
    again.want_directory("/etc/directory", 0o750)
    assert not again.changed


@pytest.mark.parametrize("error", [GearvisorError("no"), KeyboardInterrupt()])
def test_put_back(host, tmp_path, error):
    wanted = fill(host, tmp_path)
    before = tree(tmp_path / "etc")
    with pytest.raises(type(error)), wanted.applied():
        raise error
    assert tree(tmp_path / "etc") == before
    assert not list((tmp_path / "var/lib/gearvisor/journal").iterdir())


def test_put_back_when_a_path_cannot_be_written(host, tmp_path):
    wanted = fill(host, tmp_path)
    (tmp_path / "etc/mode").unlink()
    (tmp_path / "etc/mode").mkdir()
    (tmp_path / "etc/mode/theirs").touch()
    with pytest.raises(GearvisorError, match="Not everything could be put back"), wanted.applied():
        pass
    assert (tmp_path / "etc/changed").read_text() == "old\n"
    assert not (tmp_path / "etc/deep").exists()


def test_diff(host, tmp_path):
    wanted = fill(host, tmp_path)
    wanted.want("/etc/secret", "password=x\n", mask=lambda text: text.replace("x", "***"))
    shown = {entry["after_header"]: (entry["before"], entry["after"]) for entry in wanted.diff()}
    assert shown["/etc/changed"] == ("old\n", "new\n")
    assert shown["/etc/goes"] == ("goes\n", "")
    assert shown["/etc/link"] == ("link to there\n", "link to elsewhere\n")
    assert shown["/etc/directory"] == ("", "directory\n")
    assert "mode 0666" in shown["/etc/mode"][0] and "mode 0600" in shown["/etc/mode"][1]
    assert shown["/etc/secret"] == ("", "password=***\n")


KILLED = r"""
    import os, sys
    sys.path.insert(0, sys.argv[2])
    from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.changes import ChangeSet
    from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host

    def kill_at(event, arguments, state={"left": int(sys.argv[3])}):
        # The file operations that change something, the journal's own among them.
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.chown")
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if changes or opens:
            state["left"] -= 1
            if state["left"] < 0:
                os.kill(os.getpid(), 9)

    wanted = ChangeSet(Host(None, root=sys.argv[1], module="test"))
    wanted.want("/etc/changed", "new\n", 0o640)
    wanted.want("/etc/goes", None)
    wanted.want("/etc/deep/er/made", "x")
    wanted.want_link("/etc/link", "elsewhere")
    sys.addaudithook(kill_at)
    with wanted.applied():
        pass
"""


def test_a_run_that_is_killed_at_any_step_is_taken_back(tmp_path):
    """Kill at the first step that changes something, at the second and so on, until it ends by itself."""
    path = next(entry for entry in sys.path if entry.endswith(".ansible/collections"))
    kills = 0
    for step in range(200):
        root = tmp_path / str(step)
        (root / "etc").mkdir(parents=True)
        (root / "etc/changed").write_text("old\n")
        (root / "etc/goes").write_text("goes\n")
        (root / "etc/link").symlink_to("there")
        before = tree(root / "etc")
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(root), path, str(step)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
        host = Host(None, root=str(root), module="next")
        journal.recover(host, UNDO)
        if (root / "etc/deep").exists():
            # The run was over but for its note.
            assert (root / "etc/changed").read_text() == "new\n"
        else:
            assert tree(root / "etc") == before, step
        assert not [
            path for path in root.rglob("*") if path.is_file() and path.parent.name == "journal"
        ]
    assert kills > 10
