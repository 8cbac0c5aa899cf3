"""module.run() with modules of a few lines, each in a separate process, as Ansible runs them."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest

START = """
import os, sys
sys.path.insert(0, {collections!r})
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gearvisor.gearvisor.plugins.module_utils import module
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError, InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.outcome import Outcome, prepared
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import journal, lock, packages
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import processes, release
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.changes import ChangeSet

root = {root!r}
# Apart from this machine's own runs, and from other tests'.
processes.MARK = "GEARVISOR_TEST_" + str(os.getpid())
release.OS_RELEASE = root + "/os-release"
packages.POLICY = root + "/policy-rc.d"
lock.PATH = root + "/lock"
journal.DIRECTORY = root + "/journal"

ARGUMENTS = {{
    **module.HOST_ARGUMENTS,
    "value": {{"type": "str"}},
    "password": {{"type": "str", "no_log": True}},
}}

{body}

with patch_module_args({arguments!r}):
    {call}
"""
CALL = "module.run(ARGUMENTS, converge)"


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a module with this body; finish() gives its result."""
    collections = next(entry for entry in sys.path if entry.endswith(".ansible/collections"))
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    started = []

    def start(body, call=CALL, user=None, **arguments):
        text = START.format(
            root=str(tmp_path),
            collections=collections,
            body=textwrap.dedent(body),
            arguments=arguments,
            call=call,
        )
        process = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=user,
            cwd="/",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process):
    out, err = process.communicate()
    assert out, err
    return json.loads(out)


OK = """
def converge(params, host):
    return Outcome(True, ["did it"], ["/x"], prepared(["did it"]), ["look"], {"more": 7})
"""


def test_outcome(start):
    result = finish(start(OK))
    expected = {"changed": True, "actions": ["did it"], "files": ["/x"], "more": 7}
    assert {name: result[name] for name in expected} == expected
    assert result["diff"] == [{"prepared": "did it\n"}]
    assert "look" in json.dumps(result["warnings"])


def test_another_system_is_refused_but_for_a_debian_that_is_wanted(start, tmp_path):
    (tmp_path / "os-release").write_text('ID=debian\nPRETTY_NAME="Debian forky"\n')
    assert "gearman_untested_release" in finish(start(OK))["msg"]
    assert finish(start(OK, untested_release=True))["changed"]
    (tmp_path / "os-release").write_text("ID=fedora\n")
    assert "supports Debian 12 and 13" in finish(start(OK, untested_release=True))["msg"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_without_root(tmp_path):
    # As another user who can read the sources, whatever the umask of the checkout.
    code = (
        "import os; os.setuid(65534)\n"
        + START.format(
            root=str(tmp_path),
            collections=next(entry for entry in sys.path if entry.endswith(".ansible/collections")),
            body=OK,
            arguments={},
            call=CALL,
        ).replace("with patch_module_args", "os.setuid(65534)\nwith patch_module_args")
    ).partition("\n")[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert "must run as root. Set become: true" in json.loads(done.stdout)["msg"]


FAILURES = {
    "an option": (
        'raise InvalidOption("value", params["value"], "is wrong", "Use another", left=[1])',
        "value: 'v' is wrong. Use another",
        {"option": "value", "left": [1]},
    ),
    "the disk": (
        'raise OSError(28, "No space left on device", "/etc/x")',
        "An operation on this host failed: [Errno 28] No space left on device: '/etc/x'. Correct",
        {},
    ),
    "a defect": ('{}["nothing"]', "KeyError: 'nothing'. Please report this", {}),
}


@pytest.mark.parametrize(("statement", "message", "details"), FAILURES.values(), ids=FAILURES)
def test_failures(start, statement, message, details):
    result = finish(start(f"def converge(params, host):\n    {statement}\n", value="v"))
    assert result["failed"]
    assert message in result["msg"]
    assert {name: result[name] for name in details} == details
    assert "\n" not in result["msg"]


def test_secrets_are_masked_in_a_defect_too(start):
    body = 'def converge(params, host):\n    raise ValueError("x" + params["password"])\n'
    assert "Hunter2" not in json.dumps(finish(start(body, password="Hunter2")))
    call = "module.run(ARGUMENTS, converge, shown=lambda params: {}, no_log=True)"
    body = 'def converge(params, host):\n    raise ValueError(params["value"])\n'
    result = finish(start(body, call, value="Hunter2"))
    assert "Hunter2" not in json.dumps(result)
    assert "ValueError" in result["msg"]


HOLDS = """
import time
def converge(params, host):
    print("begun", file=sys.stderr, flush=True)
    while not os.path.exists(root + "/go"):
        time.sleep(0.02)
    return Outcome()
"""


def wait_until_it_waits(process, lock):
    """Return when the process has the lock's file open and has slept several times since."""

    def naps():
        if lock not in {path.resolve() for path in (proc / "fd").iterdir()}:
            return 0
        switches = re.search(
            r"^voluntary_ctxt_switches:\s+(\d+)", (proc / "status").read_text(), re.M
        )
        return int(switches.group(1))

    proc = pathlib.Path(f"/proc/{process.pid}")
    deadline = time.monotonic() + 60
    began = 0
    while not began or naps() < began + 3:
        began = began or naps()
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def test_two_runs_take_turns(start, tmp_path):
    first = start(HOLDS)
    assert first.stderr.readline() == "begun\n"
    refused = finish(start(OK, lock_timeout=0))
    assert f"(pid {first.pid}) still changes this host" in refused["msg"]
    second = start(OK)
    wait_until_it_waits(second, tmp_path / "lock")
    (tmp_path / "go").touch()
    assert not finish(first)["changed"]
    result = finish(second)
    assert result["changed"]
    assert f"(pid {first.pid}), which changed this host" in json.dumps(result["warnings"])


def test_the_lock_follows_no_link(start, tmp_path):
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    assert finish(start(OK))["failed"]
    assert (tmp_path / "elsewhere").read_text() == "theirs"


WRITES = """
import time
def converge(params, host):
    changes = ChangeSet(host)
    changes.want(root + "/file", "new")
    with changes.applied():
        print("begun", file=sys.stderr, flush=True)
        time.sleep(60)
    return Outcome()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_has_everything_put_back(start, tmp_path, number):
    (tmp_path / "file").write_text("old")
    process = start(WRITES)
    assert process.stderr.readline() == "begun\n"
    process.send_signal(number)
    assert "Ended by SIG" in finish(process)["msg"]
    assert (tmp_path / "file").read_text() == "old"
    assert list((tmp_path / "journal").iterdir()) == []


def test_what_a_killed_run_left_is_taken_back_by_the_next(start, tmp_path):
    (tmp_path / "file").write_text("old")
    process = start(WRITES)
    assert process.stderr.readline() == "begun\n"
    process.kill()
    process.wait()
    (tmp_path / "policy-rc.d").write_text("#!/bin/sh\n# Gearvisor installs packages.\nexit 101\n")
    looked = finish(start(OK, _ansible_check_mode=True))
    assert "was interrupted" in json.dumps(looked["warnings"])
    assert (tmp_path / "file").read_text() == "new"
    result = finish(start(OK))
    assert "/file is as it was before" in json.dumps(result["warnings"])
    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "policy-rc.d").exists()
    assert "was interrupted" not in json.dumps(finish(start(OK)))
