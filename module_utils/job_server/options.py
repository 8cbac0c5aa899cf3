# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gearmand's options: one table, from which arguments, checks and configuration follow. All pure.

gearmand checks next to nothing itself: --port=70000 listens on 4464, --job-retries=300 means 44.
Its configuration file is words separated by white space, without quoting. So values are checked
here. A new option of gearmand is one line in OPTIONS, its documentation in the module, and a
variable of the role.
"""

from __future__ import annotations

import collections
import re
from typing import NamedTuple

from ..failure import InvalidOption
from . import command_line, queues

VERBOSITIES = ("FATAL", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
# gearmand numbers buckets and most counts with 32 bits; more than this is memory without use.
_MOST_BUCKETS = 10_000_000
# A handle is the prefix, a colon and a number, and at most 63 bytes (libgearman's limit).
_LONGEST_PREFIX = 40
_LONGEST_NAME = 253


class Option(NamedTuple):
    """One option of the module.

    flag: gearmand's own name; None for one that only the service manager knows. type: as in an
    argument specification. bounds: (lowest, highest, why) of a number. choices: of a text.
    check(name, value): what else it must be; raises InvalidOption. default None: gearmand's own.
    """

    name: str
    flag: str
    type: str
    default: object = None
    bounds: tuple = None
    choices: tuple = None
    check: object = None

    def argument(self):
        """Return the entry of the module's argument specification."""
        argument = {"type": self.type}
        if self.choices:
            argument["choices"] = list(self.choices)
        if self.default is not None:
            argument["default"] = self.default
        return argument

    def checked(self, value):
        """Return the value; raises InvalidOption for one that gearmand would misread."""
        if value is None:
            return None
        if self.bounds:
            lowest, highest, why = self.bounds
            if not lowest <= value <= highest:
                raise InvalidOption(
                    self.name,
                    value,
                    f"is not from {lowest} to {highest}",
                    f"Correct it: {why}",
                )
        if self.check:
            self.check(self.name, value)
        return value

    def words(self, value):
        """Return the words of gearmand's configuration."""
        if self.flag is None or value is None or value is False:
            return []
        return [self.flag] if value is True else [f"{self.flag}={value}"]


def _check_listen(name, value):
    if "," in value or re.search(r"\s", value.strip()):
        raise InvalidOption(
            name,
            value,
            "is more than one address",
            "gearmand takes one: use 0.0.0.0 or :: for all addresses, limited by a firewall, or a name of "
            "several addresses",
        )
    host, colon, port = value.rpartition(":")
    if (value.count(":") == 1 or value.startswith("[")) and colon and re.fullmatch("[0-9]+", port):
        raise InvalidOption(
            name,
            value,
            "is an address with a port",
            f"Write listen: {host.strip('[]')} and port: {port}",
        )
    # A host name may hold "--" (xn--...), so only the beginning is checked for options.
    if len(value) > _LONGEST_NAME or not re.fullmatch(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*", value):
        raise InvalidOption(
            name,
            value,
            "is not an IP address or host name",
            "Use an address of this host, for example 127.0.0.1, without brackets or a port",
        )


def _check_memory(name, value):
    if not re.fullmatch(r"[1-9][0-9]{0,17}[KMGT]?|[1-9][0-9]?%", value):
        raise InvalidOption(
            name, value, "is not an amount of memory", "Use for example 512M, 2G or 50%"
        )


def _check_prefix(name, value):
    if not re.fullmatch(rf"[A-Za-z0-9_.][A-Za-z0-9_.:-]{{0,{_LONGEST_PREFIX - 1}}}", value):
        raise InvalidOption(
            name,
            value,
            f"is not a prefix of job handles of at most {_LONGEST_PREFIX} bytes",
            "Use letters, digits and . _ : -, for example H:jobs1",
        )


OPTIONS = (
    Option("listen", "--listen", "str", "127.0.0.1", check=_check_listen),
    Option(
        "port",
        "--port",
        "int",
        4730,
        (1, 65535, "gearmand does not check it and would listen elsewhere"),
    ),
    Option(
        "threads",
        "--threads",
        "int",
        4,
        (0, 1024, "0 lets gearmand choose by the number of cores"),
    ),
    Option(
        "backlog",
        "--backlog",
        "int",
        32,
        (1, 65535, "it is the length of the kernel's queue of connections"),
    ),
    Option(
        "job_retries",
        "--job-retries",
        "int",
        3,
        (1, 255, "gearmand keeps 8 bits of it, and 0 would repeat a bad job for ever"),
    ),
    Option(
        "worker_wakeup",
        "--worker-wakeup",
        "int",
        0,
        (0, 255, "gearmand keeps 8 bits of it; 0 wakes all workers"),
    ),
    Option("verbosity", "--verbose", "str", "ERROR", choices=VERBOSITIES),
    Option("round_robin", "--round-robin", "bool", True),
    Option("keepalive", "--keepalive", "bool", True),
    Option("exceptions", "--exceptions", "bool", False),
    Option(
        "hashtable_buckets",
        "--hashtable-buckets",
        "int",
        None,
        (1, _MOST_BUCKETS, "each takes 8 bytes, and more than there are jobs are of no use"),
    ),
    Option("job_handle_prefix", "--job-handle-prefix", "str", None, check=_check_prefix),
    # Written by unit.py or, under Supervisor, with the limit of supervisord in mind. gearmand
    # itself uses about 36 at 4 threads.
    Option(
        "file_descriptors",
        None,
        "int",
        None,
        (100, 1048576, "gearmand's own need comes before the first connection"),
    ),
    Option("memory_max", None, "str", None, check=_check_memory),
)

Settings = collections.namedtuple(
    "Settings",
    [*(option.name for option in OPTIONS), "extra_options", "queue"],
    defaults=[*(option.default for option in OPTIONS), (), queues.Queue()],
)
Settings.__doc__ = """What gearmand is to be run with; the names are the module's options."""

# Those that the service manager or a guarantee of Gearvisor decides, and why they are refused.
_RESERVED = {
    "daemon": "the service manager runs gearmand in the foreground",
    "user": "the service manager runs it as the user gearman",
    "pid-file": "the service manager knows the process",
    "log-file": "the service manager takes the log from its standard error",
    "config-file": "it is /etc/gearman/gearmand.conf",
    "check-args": "gearmand would end at once",
    "help": "gearmand would end at once",
    "version": "gearmand would end at once",
    "protocol": "HTTP lets every web page that a browser on this host opens submit jobs",
    "http-port": "HTTP lets every web page that a browser on this host opens submit jobs",
    "store-queue-on-shutdown": "all jobs would be lost when gearmand is killed",
}
# What each way of starting gearmand decides by itself.
MANAGED = ("daemon", "user", "pid-file", "log-file", "config-file", "file-descriptors")
_GEARMAND_DEFAULTS = {"hashtable-buckets": "991", "http-port": "8080"}
_SSL = (
    "Debian builds gearmand without TLS: it would go on in plain text. Use the role gearman_tunnel"
)
# Seconds or probes; gearmand does not check them.
_KEEPALIVE_NUMBERS = ("keepalive-idle", "keepalive-interval", "keepalive-count")
_MOST_KEEPALIVE = 32767


def arguments():
    """Return the entries of these options in the module's argument specification."""
    return {
        **{option.name: option.argument() for option in OPTIONS},
        "extra_options": {"type": "list", "elements": "str", "default": []},
        "ssl": {"type": "bool", "default": False},
    }


def typed_settings(given):
    """Return Settings of {option: value}; raises InvalidOption for what gearmand would misread."""
    if given.get("ssl"):
        raise InvalidOption(
            "ssl",
            True,
            "would be accepted and change nothing: Debian builds gearmand without TLS, so it"
            " speaks plain text whatever its options",
            "Leave it out, and encrypt between hosts with the role gearman_tunnel",
        )
    values = {
        option.name: option.checked(given[option.name])
        for option in OPTIONS
        if option.name in given
    }
    extra = [_checked_extra(word) for word in given.get("extra_options") or ()]
    return Settings(
        **values, extra_options=tuple(extra), queue=queues.typed_queue(given.get("queue") or {})
    )


def _checked_extra(word):
    match = re.fullmatch(r"--([a-z][a-z0-9-]*)(?:=([!-~]+))?", word)
    if match is None or re.search(r"[\"'\\]", word):
        raise InvalidOption(
            "extra_options",
            word,
            "is not a long option of gearmand, with its value after '='",
            "Write for example --keepalive-idle=30; gearmand's file carries no blanks, quotes, backslashes "
            "or letters beyond ASCII",
        )
    given, value = match.groups()
    name = command_line.full_name(given)
    if name != given:
        raise InvalidOption(
            "extra_options", word, "abbreviates an option", f"Write --{name} in full"
        )
    own = _own_option(name)
    if own:
        raise InvalidOption("extra_options", word, f"has an option of its own: {own}", f"Use {own}")
    reason = _SSL if name.startswith("ssl") else _RESERVED.get(name)
    if reason:
        raise InvalidOption("extra_options", word, f"is refused: {reason}", "Leave it out")
    if name in _KEEPALIVE_NUMBERS and not (
        re.fullmatch(r"[0-9]{1,5}", value or "") and 1 <= int(value) <= _MOST_KEEPALIVE
    ):
        raise InvalidOption(
            "extra_options",
            word,
            f"needs a number from 1 to {_MOST_KEEPALIVE}",
            f"Write for example --{name}=30",
        )
    return word


def _own_option(flag):
    """Return the module's option that has this option of gearmand, or None."""
    names = {option.flag[2:]: option.name for option in OPTIONS if option.flag}
    names["file-descriptors"] = "file_descriptors"
    names.update(dict.fromkeys(["queue-type", *queues.option_names()], "queue"))
    return names.get(flag)


def way_to_keep(flag, value):
    """Return what a user writes so that this option of a running gearmand stays."""
    name = _own_option(flag)
    if name is None:
        reason = _SSL if flag.startswith("ssl") else _RESERVED.get(flag)
        word = f"--{flag}" if value is True else f"--{flag}={value}"
        return f"not supported: {reason}" if reason else f"extra_options: ['{word}'] keeps it"
    return f"the option {name}"


def is_default(flag, value):
    """Return whether the value is gearmand's own default, so that it goes on without the option."""
    return _GEARMAND_DEFAULTS.get(flag) == value


def configuration(settings, file_descriptors=None):
    """Return the words of gearmand.conf, one per line. *file_descriptors*: where it has to be set there."""
    switches, others = [], []
    for option in OPTIONS:
        words = option.words(getattr(settings, option.name))
        (switches if option.type == "bool" else others).extend(words)
    limit = [] if file_descriptors is None else [f"--file-descriptors={file_descriptors}"]
    return [*others, *settings.queue.lines(), *limit, *switches, *settings.extra_options]
