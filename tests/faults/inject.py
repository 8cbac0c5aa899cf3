"""Runs one module on a lab host with a fault at its N-th step.

    inject.py MODULE FAULT NUMBER ARGUMENTS.json

A step is what a kill or a full disk can come between: each file operation that changes something,
each command, each message to another process. They are counted from outside by an audit hook
(PEP 578); no hook ships in the product. FAULT is `none` (only count), `KILL`, `TERM` or `HUP` (the
signal, before the step), `ENOSPC` or `EACCES` (the step fails with it, if it writes).

Prints the module's result; the last line of standard error is {"steps": [...]}.
"""

import errno
import importlib
import json
import os
import signal
import sys

# Audit events, see the table in the library reference.
CHANGES = {
    "os.chmod": 0,
    "os.chown": 0,
    "os.link": 1,
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rename": 1,
    "os.rmdir": 0,
    "os.symlink": 1,
    "os.truncate": 0,
}
# Of these a full disk fails the first three and a lost right all.
DISK = ("os.link", "os.mkdir", "os.symlink", "os.rename", "open")
OTHERS = ("subprocess.Popen", "http.client.connect", "http.client.send", "socket.connect")


class Steps:
    """Counts the steps of this process, and brings the fault about."""

    def __init__(self, fault, number):
        self.fault = fault
        self.number = number
        self.seen = []
        self.owner = os.getpid()

    def __call__(self, event, arguments):
        # A child between fork and exec is not a separate step.
        if os.getpid() != self.owner or not self._is_step(event, arguments):
            return
        self.seen.append(_described(event, arguments))
        if len(self.seen) - 1 != self.number:
            return
        if self.fault in ("ENOSPC", "EACCES"):
            if event in DISK:
                number = getattr(errno, self.fault)
                raise OSError(number, os.strerror(number), _described(event, arguments))
        elif self.fault != "none":
            os.kill(os.getpid(), getattr(signal, f"SIG{self.fault}"))

    @staticmethod
    def _is_step(event, arguments):
        if event == "open":
            flags = arguments[2]
            return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return event in CHANGES or event in OTHERS


def _described(event, arguments):
    """Return the step as text, without what differs from run to run."""
    if event in CHANGES or event == "open":
        what = arguments[CHANGES.get(event, 0)]
    elif event == "subprocess.Popen":
        what = " ".join(os.fsdecode(word) for word in arguments[1])[:60]
    elif event == "http.client.send":
        start = arguments[1].find(b"<methodName>") if isinstance(arguments[1], bytes) else -1
        what = arguments[1][start + 12 : start + 60].partition(b"<")[0] if start >= 0 else ""
    else:
        what = arguments[-1]
    return f"{event} {os.fsdecode(what) if isinstance(what, bytes) else what}"


def main():
    module_name, fault, number, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        arguments = json.load(file)
    from ansible.module_utils.testing import patch_module_args

    collection = "ansible_collections.gearvisor.gearvisor.plugins.modules"
    module = importlib.import_module(f"{collection}.{module_name}")
    steps = Steps(fault, int(number))
    try:
        with patch_module_args(arguments):
            # What a kill finds at its end is in the pipe already.
            sys.addaudithook(steps)
            module.main()
    finally:
        steps.owner = None
        print("\n" + json.dumps({"steps": steps.seen}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
