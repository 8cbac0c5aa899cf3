# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a program's logs lie on this host, and whether root may write to them there.

supervisord opens a log as root, by its path, and follows links: a user who can replace a part of
the path decides which file root appends a worker's output to.
"""

from __future__ import annotations

import os
import platform
import stat
import types
from typing import NamedTuple

from ..failure import InvalidOption
from ..host import trust
from .sections import is_device, is_log_file

_SYSTEMD = "/run/systemd/system"


class Surroundings(NamedTuple):
    """What decides how supervisord reads a path.

    *config* is the path of supervisord.conf, *environment* supervisord's, *pid* its process id or
    None. *trusted_users* are names of users who may own what root writes to.
    """

    config: str = "/etc/supervisor/supervisord.conf"
    environment: dict = types.MappingProxyType({})
    pid: int = None
    trusted_users: tuple = ()

    @property
    def trusted(self):
        return trust.user_ids(self.trusted_users)


def files(section, surroundings):
    """Return {option: path} of the section's logs that are files, expanded as far as that is known."""
    result = {}
    for channel in ("stdout", "stderr"):
        option = f"{channel}_logfile"
        if is_log_file(section.options, channel):
            path = _expanded(section.options[option], section, surroundings)
            if path.startswith("/") and not is_device(path):
                result[option] = os.path.normpath(path)
    return result


def of_sections(sections, surroundings):
    """Return the set of the sections' log files, as far as their paths are known."""
    return {path for section in sections for path in files(section, surroundings).values()}


def problems(section, surroundings):
    """Yield InvalidOption for each log that supervisord cannot open, or that others could redirect."""
    for option in ("stdout_logfile", "stderr_logfile"):
        value = section.options.get(option, "")
        if is_device(value):
            yield from _device_problems(f"{section.parameter}.{option}", value, surroundings)
    for option, path in files(section, surroundings).items():
        where = f"{section.parameter}.{option}"
        value = section.options[option]
        found = _kind(path)
        if found:
            yield InvalidOption(
                where, value, f"is {found}, not a file", f"Name a file, such as {path}/out.log"
            )
            continue
        weak = trust.weakness(path, surroundings.trusted)
        if weak:
            yield _redirectable(where, value, path, weak)


def _redirectable(where, value, path, weak):
    owner = weak.reason.rpartition("user ")[2] if weak.reason.startswith("belongs to") else None
    trusting = (
        f"set gearman_trusted_users: [{owner}] (trusted_users of the module), which means that {owner} may "
        "become root on this host"
        if owner
        else f"let only root write to {weak.path} (chmod go-w)"
    )
    return InvalidOption(
        where,
        value,
        f"is a log that root writes to at a place that others control: {weak.path} {weak.reason}, and could make "
        "root write to any file",
        f"Write {where.rpartition('.')[2]}: /var/log/gearman-worker/{os.path.basename(path)}, or {trusting}",
        directory=weak.path,
    )


def _kind(path):
    """Return what is at *path* if it can be no log, in words, or None."""
    try:
        mode = os.stat(path).st_mode
    except NotADirectoryError:
        return "below a file"
    except OSError:
        return None
    for test, words in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a disk"),
    ):
        if test(mode):
            return words
    return None


def _device_problems(where, value, surroundings):
    """supervisord's own output is the journal's socket under systemd, which open(2) refuses (ENXIO)."""
    number = {"stdout": "1", "stderr": "2"}.get(os.path.basename(value), os.path.basename(value))
    if not number.isdigit():
        return
    try:
        is_socket = stat.S_ISSOCK(os.stat(f"/proc/{surroundings.pid or 0}/fd/{number}").st_mode)
    except OSError:
        is_socket = surroundings.pid is None and os.path.isdir(_SYSTEMD)
    if is_socket:
        channel = where.rpartition(".")[2].partition("_")[0]
        yield InvalidOption(
            where,
            value,
            "is a socket of the journal under systemd, which cannot be opened as a file",
            f"Write {channel}_syslog: true and {channel}_logfile: NONE for the journal, or name a file",
        )


def _expanded(value, section, surroundings):
    """Return a log's path with Supervisor's expansions filled in, twice as it does; else as it is."""
    known = {f"ENV_{name}": text for name, text in surroundings.environment.items()}
    known.update(
        here=os.path.dirname(surroundings.config),
        host_node_name=platform.node(),
        program_name=section.group,
        group_name=section.group,
        process_num=int(section.options.get("numprocs_start", 0)),
        numprocs=int(section.options.get("numprocs", 1)),
    )
    try:
        return value % known % known
    except (KeyError, TypeError, ValueError):
        return value
