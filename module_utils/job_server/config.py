# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gearmand's configuration file, its command lines, and what a running one was started with. All pure."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from ..failure import InvalidOption
from . import command_line, function_limit, options, queues

CONFIG = "/etc/gearman/gearmand.conf"
PID_FILE = "/run/gearman/gearmand.pid"
GEARMAND = "/usr/sbin/gearmand"
USER = "gearman"
PURGED = "/var/lib/gearman"
# The limits of functions, and the script that sets them whenever gearmand starts.
MAX_QUEUE = "/etc/gearman/max_queue.json"
MAX_QUEUE_SCRIPT = "/usr/local/lib/gearvisor/max_queue.py"
# Debian's options for its own way of starting gearmand, which Gearvisor's does not read.
DEFAULTS = "/etc/default/gearman-job-server"
# Most of what it serves; far less memory than the limit that some containers come with.
FILE_DESCRIPTORS = 65536

MARK = "# Written by Ansible (Gearvisor, gearman_job_server). Changes made here are lost."
_DEFAULTS_MARK = (
    f"# Gearvisor (gearman_job_server): nothing reads this file. The options are in {CONFIG}.\n"
)


def config_text(settings, file_descriptors=None):
    """Return gearmand.conf. *file_descriptors* is written only when it is given.

    The comment must hold no word that begins with two dashes: gearmand would obey it.
    """
    return "\n".join([MARK, *options.configuration(settings, file_descriptors)]) + "\n"


def own_limit(settings, hard_limit):
    """Return how many files gearmand has to allow itself; None when its unit sets it.

    *hard_limit* is that of its service manager, None for systemd. Raises InvalidOption.
    """
    wanted = settings.file_descriptors
    if hard_limit is None:
        return None
    if wanted is None:
        return min(FILE_DESCRIPTORS, hard_limit)
    if wanted > hard_limit:
        raise InvalidOption(
            "file_descriptors",
            wanted,
            f"is above {hard_limit}, the hard limit of supervisord",
            f"Use {hard_limit} or less, or start supervisord with a higher limit",
        )
    return wanted


def is_ours(text):
    """Return whether this module wrote the file."""
    return text.startswith(MARK)


def at_start(text):
    """Return what a running gearmand took from the file's text (or None) when it started."""
    return command_line.parsed(command_line.file_words(text or ""))


def defaults_text(text):
    """Return Debian's file of options with a line that states that it is not read."""
    return text if text.startswith(_DEFAULTS_MARK) else _DEFAULTS_MARK + text


def defaults_restored(text):
    """Return Debian's file of options without that line."""
    return text[len(_DEFAULTS_MARK) :] if text.startswith(_DEFAULTS_MARK) else text


def systemd_command(config=CONFIG):
    """Return the command line under systemd, which takes the log from stderr.

    Debian's logrotate sends HUP to the pid in PID_FILE, so that file must name this process:
    HUP then reopens stderr, which is harmless.
    """
    return [GEARMAND, f"--config-file={config}", "--log-file=stderr", f"--pid-file={PID_FILE}"]


def supervisor_command(config=CONFIG):
    """Return the command line under Supervisor.

    It has no pid file: after a reboot nothing would make its directory, and gearmand does not
    start without it.
    """
    return [GEARMAND, f"--config-file={config}", "--log-file=stderr"]


def max_queue_command(config=CONFIG):
    """Return the command line that gives a started gearmand the limits of its functions."""
    return ["/usr/bin/python3", MAX_QUEUE_SCRIPT, config, MAX_QUEUE]


def max_queue_script():
    """Return the text of that script."""
    return f"{MARK}\n{inspect.getsource(function_limit)}"


def client_address(listen, port):
    """Return the "host:port" at which a client on this host reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", None: "127.0.0.1"}.get(listen, listen)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Running(NamedTuple):
    """What a running gearmand was started with.

    options: {gearmand's option without dashes: value, True for one without}; only what was given.
    """

    listen: str
    port: int
    queue: queues.Queue
    options: dict

    @property
    def address(self):
        return client_address(self.listen, self.port)


def running_settings(argv, file_text):
    """Return Running of a gearmand's command line and its configuration file's text (or None).

    It may be Debian's own or started by hand, so all of gearmand's spellings are read.
    """
    found = command_line.parsed([*command_line.file_words(file_text or ""), *argv[1:]])
    port = found.get("port", "")
    return Running(
        found.get("listen"),
        int(port) if str(port).isdigit() else 4730,
        queues.running_queue({"queue-type": "builtin", **found}),
        found,
    )


def config_file_of(argv):
    """Return the configuration file that a gearmand's command line names, or gearmand's default."""
    return command_line.parsed(argv[1:]).get("config-file", "/etc/gearmand.conf")


def lost_options(running, settings):
    """Return sentences about the options of a Running that these Settings do not go on with."""
    wanted = command_line.parsed(options.configuration(settings))
    result = []
    for name, value in sorted(running.options.items()):
        if name in (*options.MANAGED, "queue-type", *queues.option_names()):
            continue
        if wanted.get(name) == value:
            continue
        if name not in wanted and options.is_default(name, value):
            continue
        shown = f"--{name}" if value is True else f"--{name}={value}"
        new = wanted.get(name)
        result.append(
            f"{shown} {'goes away' if new is None else f'becomes {new}'}"
            f" ({options.way_to_keep(name, value)})"
        )
    if running.queue.type != settings.queue.type:
        result.append(f"--queue-type={running.queue.type} becomes {settings.queue.type} (queue)")
    return result
