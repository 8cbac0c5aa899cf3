# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lock per host: modules that change it take turns."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

from ..failure import InvalidOption

PATH = "/run/gearvisor.lock"


@contextlib.contextmanager
def held(host, seconds):
    """Hold the host's lock for the block; yields a list of sentences about a wait.

    The lock belongs to the process: it is free as soon as the run ends, however it ends.
    Raises InvalidOption (lock_timeout) when others hold it for more than *seconds*.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(host.path(PATH), flags, 0o600)
    try:
        yield _wait(descriptor, seconds, _note(host))
    finally:
        os.close(descriptor)


def _note(host):
    return json.dumps({"module": host.module, "pid": os.getpid()}).encode()


def _wait(descriptor, seconds, note):
    began = time.monotonic()
    holder = None
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            holder = _holder(descriptor)
        if time.monotonic() - began >= seconds:
            raise InvalidOption(
                "lock_timeout",
                seconds,
                f"seconds have passed, and {holder} still changes this host",
                "Nothing was changed. Let that run finish or end it, or give more time",
            )
        time.sleep(0.1)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, note, 0)
    if holder is None:
        return []
    return [f"Waited {time.monotonic() - began:.0f} s for {holder}, which changed this host"]


def _holder(descriptor):
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"{note['module']} (pid {note['pid']})"
    except (ValueError, KeyError, TypeError):
        return "another run"
