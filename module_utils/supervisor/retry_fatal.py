# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event listener that starts FATAL processes again, after a while.

supervisord gives a process up for good after startretries failed starts, even
when what it needed is back a minute later. This file is run as a script, by
supervisord, under its own interpreter: retry_fatal.py SECONDS. It says on
standard error what it saw and did.

Source of the conversation: Supervisor's documentation, "Events".
"""

import select
import sys
import time
import xmlrpc.client


def fatal_process(payload):
    """Return "group:process" of a PROCESS_STATE_FATAL event's payload.

    >>> fatal_process("processname:mail_00 groupname:mail_00 from_state:BACKOFF")
    'mail_00:mail_00'
    """
    values = dict(word.split(":", 1) for word in payload.split())
    return f"{values['groupname']}:{values['processname']}"


def read_event(stdin):
    """Return the payload of the next event, or None when supervisord has gone."""
    header = stdin.readline()
    if not header:
        return None
    values = dict(word.split(":", 1) for word in header.split())
    return stdin.read(int(values["len"]))


def start(supervisor, name):
    """Start a process that is still FATAL; one that was started or removed meanwhile is left."""
    try:
        if supervisor.getProcessInfo(name)["statename"] == "FATAL":
            supervisor.startProcess(name, False)
            say(f"{name} is started again")
    except xmlrpc.client.Fault as fault:
        say(f"{name} is not started again: {fault.faultString}")


def say(text):
    print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), text, file=sys.stderr, flush=True)


def serve(supervisor, delay, stdin, stdout):
    """Listen until supervisord goes; wait without blocking it, as it holds back further events."""
    due = {}
    stdout.write("READY\n")
    stdout.flush()
    while True:
        wait = max(0, min(due.values()) - time.monotonic()) if due else None
        if select.select([stdin], [], [], wait)[0]:
            payload = read_event(stdin)
            if payload is None:
                return
            name = fatal_process(payload)
            due.setdefault(name, time.monotonic() + delay)
            say(f"{name} is FATAL; it is started again in {delay:g} s")
            stdout.write("RESULT 2\nOKREADY\n")
            stdout.flush()
        for name in [name for name, at in due.items() if at <= time.monotonic()]:
            del due[name]
            start(supervisor, name)


def main():
    import os

    from supervisor import childutils

    serve(
        childutils.getRPCInterface(os.environ).supervisor,
        float(sys.argv[1]),
        sys.stdin,
        sys.stdout,
    )


if __name__ == "__main__":
    main()
