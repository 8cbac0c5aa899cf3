# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a gearmand that has just started the limits of its functions, which it forgets when it ends.

This file is run as a script by what starts gearmand: max_queue.py GEARMAND.CONF MAX_QUEUE.JSON.
The latter is {function: [size] or [high, normal, low]}. So it holds after a crash and a reboot,
too. It reports on standard error what it could not do.
"""

import json
import os
import socket
import sys
import time

SECONDS = 60


def address(text):
    """Return (host, port) that reach a gearmand with this configuration from its own host.

    >>> address("--listen=0.0.0.0\\n--port=4731\\n")
    ('127.0.0.1', 4731)
    """
    options = dict(word[2:].partition("=")[::2] for word in text.split() if word.startswith("--"))
    host = options.get("listen", "127.0.0.1")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(options.get("port", 4730))


def commands(limits):
    """Return the admin commands that set the limits.

    gearmand ignores maxqueue for a function that it does not know.
    """
    lines = []
    for function, sizes in sorted(limits.items()):
        lines.append(f"create function {function}")
        lines.append(" ".join(["maxqueue", function, *(str(size) for size in sizes)]))
    return lines


def send_commands(host, port, lines, pid=None, seconds=SECONDS):
    """Give gearmand the commands; wait for it so long, or until the process is gone. Raises OSError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((host, port), 5) as connection:
                connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
                replies = connection.makefile("rb")
                for line in lines:
                    reply = replies.readline()
                    if not reply:
                        raise ConnectionResetError("gearmand closed the connection")
                    if not reply.startswith(b"OK"):
                        log(f"gearmand answers {reply!r} to {line!r}")
                return
        except OSError:
            if time.monotonic() >= deadline or (pid and not os.path.exists(f"/proc/{pid}")):
                raise
            time.sleep(0.1)


def log(text):
    sys.stderr.write(f"max_queue.py: {text}\n")
    sys.stderr.flush()


def main(config, limits):
    try:
        with open(limits, encoding="utf-8") as file:
            lines = commands(json.load(file))
    except FileNotFoundError:
        return
    if not lines:
        return
    try:
        with open(config, encoding="utf-8") as file:
            host, port = address(file.read())
        # systemd waits for this script, and passes the server's pid.
        send_commands(host, port, lines, os.environ.get("MAINPID"))
    except OSError as error:
        log(f"the limits of {limits} are not set: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
