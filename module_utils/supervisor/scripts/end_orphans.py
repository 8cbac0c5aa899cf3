# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the workers that a supervisord which was killed has left behind, each after its job.

A supervisord that is killed leaves its processes with init as their parent, and the next one starts a
second set beside them. Run as a script: end_orphans.py SECONDS sends each its stop signal and
waits so long for them to end; those that take longer finish their job and end by themselves, since
a worker that was asked to leave takes no other. end_orphans.py --after-stop SECONDS, as systemd's
ExecStopPost, ends all that is left in the service's control group after a stop that was asked
for, in the end by SIGKILL; after a crash it leaves them to the next start.

gearmand is never ended here: the queue in its memory would be lost.
"""

import configparser
import glob
import os
import signal
import sys
import time

CONFIG = "/etc/supervisor/supervisord.conf"
_NEVER = ("gearmand",)
_MARKS = (b"SUPERVISOR_ENABLED", b"SUPERVISOR_PROCESS_NAME", b"SUPERVISOR_GROUP_NAME")


def environment(pid, proc="/proc"):
    """Return the process's environment as {bytes: bytes}; {} when it cannot be read."""
    entries = as_owner(pid, proc, lambda: _read(f"{proc}/{pid}/environ")) or b""
    return dict(entry.partition(b"=")[::2] for entry in entries.split(b"\0") if b"=" in entry)


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def as_owner(pid, proc, look):
    """Return look(), or None; in a container, root may see a process only with its owner's eyes."""
    try:
        return look()
    except OSError:
        pass
    try:
        owner = os.stat(f"{proc}/{pid}")
        group = os.getegid()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
    except OSError:
        return None
    try:
        return look()
    except OSError:
        return None
    finally:
        os.seteuid(0)
        os.setegid(group)


def relations(pid, proc="/proc"):
    """Return (parent, process group, session) of a process that runs, or None."""
    try:
        with open(f"{proc}/{pid}/stat", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else tuple(int(field) for field in fields[1:4])


def name_of(pid, proc="/proc"):
    """Return the name of the process's program, or ""."""
    try:
        with open(f"{proc}/{pid}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def find(supervisord=None, socket=None, proc="/proc"):
    """Return {pid: (group, process)} of the processes whose supervisord is gone.

    *supervisord* is the pid of the one that runs now, if one does; *socket* (the path of its socket)
    leaves out those of others. An orphan leads a process group of its own as supervisord makes them,
    and nothing above it is a process of supervisord's.
    """
    found = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        pid = int(name)
        marks = environment(pid, proc)
        about = relations(pid, proc)
        if about is None or not all(mark in marks for mark in _MARKS):
            continue
        parent, group, session = about
        url = marks.get(b"SUPERVISOR_SERVER_URL", b"").decode(errors="replace")
        if socket is not None and not same_socket(url, socket):
            continue
        if group != pid or session == pid or parent == supervisord:
            continue
        if name_of(parent, proc).startswith("supervisord") or _MARKS[0] in environment(
            parent, proc
        ):
            continue
        if name_of(pid, proc) not in _NEVER and _same_namespace(pid, proc):
            found[pid] = (
                marks[b"SUPERVISOR_GROUP_NAME"].decode(errors="replace"),
                marks[b"SUPERVISOR_PROCESS_NAME"].decode(errors="replace"),
            )
    return found


def named(orphans):
    """Return who they are, for people: their names come from environments that anyone can make."""
    return ", ".join(
        f"{ascii(process)[1:-1][:100]} (pid {pid})" for pid, (_group, process) in orphans.items()
    )


def same_socket(url, path):
    """Whether the url unix://... is that of the socket; /var/run is a link to /run."""
    return os.path.realpath(url.replace("unix://", "")) == os.path.realpath(path)


def _same_namespace(pid, proc):
    space = as_owner(pid, proc, lambda: os.readlink(f"{proc}/{pid}/ns/pid"))
    return space in (None, os.readlink("/proc/self/ns/pid"))


def configuration(config=CONFIG):
    """Return supervisord's configuration with its included files; what is broken is left out."""
    parser = configparser.RawConfigParser(
        strict=False, inline_comment_prefixes=(";", "#"), default_section="\0"
    )
    try:
        parser.read(config)
        patterns = parser.get("include", "files", fallback="").split()
        here = os.path.dirname(config)
        for pattern in patterns:
            path = os.path.join(here, pattern.replace("%(here)s", here))
            parser.read(sorted(glob.glob(path)))
    except (configparser.Error, UnicodeDecodeError):
        pass
    return parser


def socket_of(parser):
    """Return the path of supervisord's socket."""
    return parser.get("unix_http_server", "file", fallback="/run/supervisor.sock")


def stop_signals(parser):
    """Return {section's name: signal number} of its programs."""
    found = {}
    for section in parser.sections():
        name = parser.get(section, "stopsignal", fallback="TERM").upper()
        name = name[3:] if name.startswith("SIG") else name
        number = int(name) if name.isdigit() else getattr(signal, f"SIG{name}", signal.SIGTERM)
        found[section.partition(":")[2]] = number
    return found


def ask_to_leave(orphans, signals):
    """Send each orphan its stop signal."""
    for pid, (group, _process) in orphans.items():
        _signal(pid, signals.get(group, signal.SIGTERM))


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def wait(pids, seconds, proc="/proc"):
    """Wait until the processes are gone, so long at most; return those that are not."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid in pids if relations(pid, proc) is not None]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.1)


def in_control_group():
    """Return the pids of this process's own control group, itself left out."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if controllers not in ("", "name=systemd"):
            continue
        root = "/sys/fs/cgroup" if number == "0" else "/sys/fs/cgroup/systemd"
        for place in (root, "/sys/fs/cgroup/unified"):
            try:
                with open(f"{place}{path}/cgroup.procs") as file:
                    pids = [int(pid) for pid in file.read().split()]
            except OSError:
                continue
            # Only of a service: never the root of all.
            if path.rstrip("/").endswith(".service"):
                return [pid for pid in pids if pid != os.getpid()]
    return []


def after_stop(seconds):
    """End what a stop has left in the service's control group, unless supervisord crashed."""
    if os.environ.get("SERVICE_RESULT") not in ("success", "timeout"):
        return
    pids = in_control_group()
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5)):
        for pid in pids:
            _signal(pid, number)
        pids = wait(pids, patience)


def main(arguments):
    if arguments[:1] == ["--after-stop"]:
        after_stop(float(arguments[1]))
        return
    parser = configuration()
    orphans = find(socket=socket_of(parser))
    if not orphans:
        return
    report(f"A former supervisord has left these, which are asked to leave: {named(orphans)}")
    ask_to_leave(orphans, stop_signals(parser))
    left = wait(orphans, float(arguments[0]))
    if left:
        report(f"These finish their jobs first: pid {', '.join(map(str, left))}")


def report(text):
    """Print the line at once, for the journal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
