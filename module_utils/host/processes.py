# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes as /proc shows them, and those that a killed run left behind."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import time

# In the environment of the commands that must not outlive their run: the run's pid and start.
MARK = "GEARVISOR_RUN"
# A dpkg that is killed leaves packages half configured, so these are waited for.
_WAITED_FOR = ("apt-get", "apt", "dpkg", "dpkg-deb", "dpkg-preconfigure", "frontend")
_ONLY_WAITED_FOR = ":apt"
_TERM_SECONDS = 5


def started(pid, proc="/proc"):
    """Return when the process was started, in clock ticks since boot, or None if it is gone.

    Together with the pid it identifies a process until the next boot (field 22 of proc(5) stat).
    """
    try:
        stat = pathlib.Path(proc, str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field, the name, is in parentheses and may hold anything.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def boot_id():
    """Return the identifier of this boot of the kernel."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def mark(ends=True):
    """Return {variable: value} for the environment of commands that end with this run.

    With *ends* False, as for apt, whose packages may start services, they are only waited for.
    """
    return {MARK: f"{os.getpid()}:{started(os.getpid())}{'' if ends else _ONLY_WAITED_FOR}"}


@contextlib.contextmanager
def eyes_of_owner(path):
    """For the block, act as the owner of *path*.

    In a container without ptrace root may not see what other users' processes hold.
    """
    if os.geteuid() != 0:
        yield
        return
    owner = os.stat(path)
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def environment(pid, proc="/proc"):
    """Return the environment with which the process was started as {bytes: bytes}; {} if unseen."""
    path = pathlib.Path(proc, str(pid), "environ")
    try:
        text = path.read_bytes()
    except OSError:
        try:
            with eyes_of_owner(path.parent):
                text = path.read_bytes()
        except OSError:
            return {}
    return dict(entry.partition(b"=")[::2] for entry in text.split(b"\0") if b"=" in entry)


def abandoned(proc="/proc"):
    """Return {pid: name} of the marked processes whose run is gone."""
    result = {}
    for path in pathlib.Path(proc).iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        # A container's own run has its pid there, so here it looks gone.
        if _in_container(path):
            continue
        run = environment(path.name, proc).get(MARK.encode())
        if run is None or _lives(run, proc):
            continue
        with contextlib.suppress(OSError):
            # A process names itself, so the name may hold anything.
            name = ascii((path / "comm").read_text(errors="replace").strip())[1:-1]
            only_waited_for = run.endswith(_ONLY_WAITED_FOR.encode())
            if not only_waited_for or _is_waited_for(path.name, name, proc):
                result[int(path.name)] = name
    return result


def _in_container(path):
    """Return whether the process of this directory in /proc is in a pid namespace below this one."""
    try:
        status = (path / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    numbers = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
    return numbers is not None and len(numbers.group(1).split()) > 1


def _lives(run, proc):
    pid, start = [*run.decode("ascii", errors="replace").split(":"), ""][:2]
    return pid.isdigit() and str(started(pid, proc)) == start


def end_abandoned(seconds, proc="/proc"):
    """End what killed runs left behind; return sentences that report it.

    apt and dpkg are waited for, up to *seconds*; everything else gets SIGTERM and then SIGKILL.
    """
    reports = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        waited_for = {
            pid: name for pid, name in abandoned(proc).items() if _is_waited_for(pid, name, proc)
        }
        if not waited_for:
            break
        names = ", ".join(f"{name} (pid {pid})" for pid, name in sorted(waited_for.items()))
        reports = [f"Waited for what an interrupted run had started: {names}"]
        time.sleep(0.2)
    left = {
        pid: (name, started(pid, proc))
        for pid, name in abandoned(proc).items()
        if not _is_waited_for(pid, name, proc)
    }
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            _signal(pid, number, left[pid][1], proc)
        until = time.monotonic() + _TERM_SECONDS
        while _alive(left, proc) and time.monotonic() < until:
            time.sleep(0.05)
        if not _alive(left, proc):
            break
    reports += [
        f"Ended {name} (pid {pid}), which an interrupted run had started"
        for pid, (name, _start) in sorted(left.items())
    ]
    return reports


def _is_waited_for(pid, name, proc):
    # Only root's: another user may give a process any name.
    try:
        return name in _WAITED_FOR and os.stat(f"{proc}/{pid}").st_uid == 0
    except OSError:
        return False


def _alive(left, proc):
    return [pid for pid, (_name, start) in left.items() if started(pid, proc) == start]


def _signal(pid, number, start, proc):
    if started(pid, proc) == start:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
