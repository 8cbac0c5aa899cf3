# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event listener that starts FATAL processes again, and writes down the states of all.

supervisord gives a process up for good after startretries failed starts, even
when what it needed is back a minute later. This file is run as a script, by
supervisord, under its own interpreter: retry_fatal.py SECONDS [PATH]. It logs to
standard error what it saw and did.

PATH (default: STATES) shows what each process does to those who may not use supervisord's socket,
which gives full control: `gearvisor top` and `gearvisor exporter`. It is JSON, replaced as a
whole; once the process PID, which started at PID_STARTED, is gone, it is stale.

Besides, for supervisord's sake: the memory killer is to take a worker first. Where supervisord has
been given a better score than others, its processes inherit that, and lose it here again.

Source of the conversation: Supervisor's documentation, "Events".
"""

import glob
import json
import os
import re
import select
import shutil
import sys
import time
import xmlrpc.client

STATES = "/run/gearvisor/processes.json"
REFRESH = 60  # seconds between two full looks: events do not report removed processes
WINDOW = 600  # seconds for which a failure is remembered
WRITE = 1  # seconds between two writes, at least
SPAWN_ERROR = 50  # Supervisor's fault code: a process that was gone before supervisord answered


class States:
    """What each process of supervisord does, from events and from full looks, in a file."""

    def __init__(self, path):
        self._path = path
        self._processes = {}
        self._changed = True
        self._written = self._refreshed = float("-inf")

    def due(self, now):
        """Return the seconds until there is something to do."""
        write = self._written + WRITE if self._changed else float("inf")
        return max(0, min(self._refreshed + REFRESH, write) - now)

    def event(self, kind, payload):
        """Take note of a PROCESS_STATE event."""
        values = dict(word.split(":", 1) for word in payload.split())
        group, name = values["groupname"], values["processname"]
        process = self._processes.setdefault((group, name), new_process(group, name))
        process["state"] = kind.rpartition("_")[2]
        process["since"] = time.time()
        unexpected = process["state"] == "EXITED" and values.get("expected") == "0"
        if unexpected or process["state"] == "BACKOFF":
            process["failures"].append(process["since"])
        self._changed = True

    def act(self, supervisor, now):
        """Look at all processes and write the file, as far as it is time to."""
        if now - self._refreshed >= REFRESH:
            self._refreshed = now
            self._look(supervisor.getAllProcessInfo())
        if self._changed and now - self._written >= WRITE:
            self._written = now
            self._changed = False
            self._write()

    def _look(self, infos):
        known, self._processes = self._processes, {}
        for info in infos:
            key = info["group"], info["name"]
            process = known.get(key) or new_process(*key)
            if process["state"] != info["statename"]:
                process["state"] = info["statename"]
                process["since"] = info["start"] if info["pid"] else info["stop"]
            self._processes[key] = process
        self._changed = True

    def _write(self):
        long_ago = time.time() - WINDOW
        for process in self._processes.values():
            process["failures"] = [at for at in process["failures"] if at > long_ago][-100:]
        pid = os.getpid()
        with open(f"/proc/{pid}/stat") as file:
            pid_started = int(file.read().rpartition(")")[2].split()[19])
        document = {
            "version": 1,
            "pid": pid,
            "pid_started": pid_started,
            "updated": time.time(),
            "processes": list(self._processes.values()),
        }
        try:
            os.makedirs(os.path.dirname(self._path), 0o755, exist_ok=True)
            with open(self._path + ".tmp", "w") as file:
                json.dump(document, file)
                os.fchmod(file.fileno(), 0o644)
            os.replace(self._path + ".tmp", self._path)
        except OSError as error:
            log(f"{self._path} cannot be written: {error.strerror}")


class Scores:
    """Takes the better score for the memory killer from all processes but supervisord."""

    AFTER = (0.1, 1.0, 5.0)  # seconds after an event: the process comes into being with it

    def __init__(self, supervisord):
        self._supervisord = supervisord
        self._due = []
        self.event()

    def event(self):
        """A process is being started."""
        now = time.monotonic()
        self._due += [now + seconds for seconds in self.AFTER]

    def due(self, now):
        """Return the seconds until there is something to do."""
        return max(0, min(self._due, default=float("inf")) - now)

    def act(self, now):
        """Reset the scores, if it is time to."""
        if not self._due or min(self._due) > now:
            return
        self._due = [at for at in self._due if at > now]
        try:
            own = self._score(self._supervisord)
            if own >= 0:
                return
            for pid in descendants(self._supervisord):
                if self._score(pid) == own:
                    with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                        file.write("0")
        except (OSError, ValueError):
            pass  # a process that has just ended; the next look finds the others

    @staticmethod
    def _score(pid):
        with open(f"/proc/{pid}/oom_score_adj") as file:
            return int(file.read())


def descendants(pid):
    """Return the pids of all processes below this one."""
    found, todo = [], [pid]
    while todo:
        each = todo.pop()
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children") as file:
                    below = [int(child) for child in file.read().split()]
                found += below
                todo += below
        except OSError:
            continue
    return found


def make_directories(pattern="/etc/tmpfiles.d/gearvisor-*.conf"):
    """Make the directories that systemd-tmpfiles would make at boot, on a host without it."""
    if os.path.isdir("/run/systemd/system"):
        return
    for path in sorted(glob.glob(pattern)):
        with open(path) as file:
            lines = [line.split() for line in file if line.startswith("d ")]
        for _kind, directory, mode, user, group, _age in lines:
            try:
                os.makedirs(directory, exist_ok=True)
                if not os.path.islink(directory):
                    shutil.chown(directory, user, group)
                    os.chmod(directory, int(mode, 8))
            except (OSError, LookupError, ValueError) as error:
                log(f"{directory} cannot be created: {error}")


def end_orphans():
    """Ask what a former supervisord has left behind to leave: without systemd, that is done here."""
    import end_orphans as orphans  # beside this file

    socket = os.environ["SUPERVISOR_SERVER_URL"].replace("unix://", "")
    found = orphans.find(supervisord=os.getppid(), socket=socket)
    if found:
        log(
            f"a former supervisord has left these, which are asked to leave: {orphans.named(found)}"
        )
        orphans.ask_to_leave(found, orphans.stop_signals(orphans.configuration()))


def new_process(group, name):
    """Return a process of which nothing is known yet. Its program: mail of the group mail_03."""
    program = re.sub(r"_[0-9]+\Z", "", group)
    return {"program": program, "name": name, "state": "UNKNOWN", "since": 0, "failures": []}


def fatal_process(payload):
    """Return "group:process" of a PROCESS_STATE_FATAL event's payload.

    >>> fatal_process("processname:mail_00 groupname:mail_00 from_state:BACKOFF")
    'mail_00:mail_00'
    """
    values = dict(word.split(":", 1) for word in payload.split())
    return f"{values['groupname']}:{values['processname']}"


def read_event(stdin):
    """Return name and payload of the next event, or None when supervisord has gone."""
    header = stdin.readline()
    if not header:
        return None
    values = dict(word.split(":", 1) for word in header.split())
    return values["eventname"], stdin.read(int(values["len"]))


def start(supervisor, name):
    """Start a process that is still FATAL; one that was started or removed meanwhile is left."""
    try:
        if supervisor.getProcessInfo(name)["statename"] == "FATAL":
            supervisor.startProcess(name, False)
            log(f"{name} is started again")
    except xmlrpc.client.Fault as fault:
        # Such a one was tried, and may have run and ended; supervisord goes on trying.
        outcome = "ended at once" if fault.faultCode == SPAWN_ERROR else "is not started again"
        log(f"{name} {outcome}: {fault.faultString}")


def log(text):
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")
    sys.stderr.flush()


def serve(supervisor, delay, stdin, stdout, states, scores):
    """Listen until supervisord goes; wait without blocking it, as it holds back further events."""
    due = {}
    stdout.write("READY\n")
    stdout.flush()
    while True:
        now = time.monotonic()
        wait = min([states.due(now), scores.due(now), *(max(0, at - now) for at in due.values())])
        if select.select([stdin], [], [], wait)[0]:
            event = read_event(stdin)
            if event is None:
                return
            kind, payload = event
            states.event(kind, payload)
            if kind == "PROCESS_STATE_STARTING":
                scores.event()
            if kind == "PROCESS_STATE_FATAL":
                name = fatal_process(payload)
                due.setdefault(name, time.monotonic() + delay)
                log(f"{name} is FATAL; it is started again in {delay:g} s")
            stdout.write("RESULT 2\nOKREADY\n")
            stdout.flush()
        for name in [name for name, at in due.items() if at <= time.monotonic()]:
            del due[name]
            start(supervisor, name)
        scores.act(time.monotonic())
        try:
            states.act(supervisor, time.monotonic())
        except (OSError, xmlrpc.client.Error) as error:
            log(f"supervisord did not answer: {error}")


def main():
    from supervisor import childutils

    path = sys.argv[2] if len(sys.argv) > 2 else STATES
    make_directories()
    try:
        end_orphans()
    except (ImportError, KeyError, OSError) as error:
        log(f"what a former supervisord may have left was not looked for: {error}")
    serve(
        childutils.getRPCInterface(os.environ).supervisor,
        float(sys.argv[1]),
        sys.stdin,
        sys.stdout,
        States(path),
        Scores(os.getppid()),
    )


if __name__ == "__main__":
    main()
