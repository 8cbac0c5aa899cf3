# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads command lines of gearmand in all its spellings, which are those of Boost. Pure."""

from __future__ import annotations

# Of gearmand 1.1.20 and 1.1.21; those of a letter, too.
LETTERS = {
    "b": "backlog",
    "d": "daemon",
    "f": "file-descriptors",
    "h": "help",
    "j": "job-retries",
    "l": "log-file",
    "L": "listen",
    "P": "pid-file",
    "p": "port",
    "r": "protocol",
    "R": "round-robin",
    "q": "queue-type",
    "t": "threads",
    "u": "user",
    "V": "version",
    "w": "worker-wakeup",
}
SWITCHES = (
    "check-args",
    "coredump",
    "daemon",
    "exceptions",
    "help",
    "keepalive",
    "round-robin",
    "ssl",
    "store-queue-on-shutdown",
    "syslog",
    "version",
)
WITH_VALUE = (
    "backlog",
    "config-file",
    "file-descriptors",
    "hashtable-buckets",
    "http-port",
    "job-handle-prefix",
    "job-retries",
    "keepalive-count",
    "keepalive-idle",
    "keepalive-interval",
    "libmemcached-prefix",
    "libmemcached-servers",
    "libpq-conninfo",
    "libpq-table",
    "libsqlite3-db",
    "libsqlite3-table",
    "listen",
    "log-file",
    "mysql-db",
    "mysql-host",
    "mysql-password",
    "mysql-port",
    "mysql-table",
    "mysql-user",
    "pid-file",
    "port",
    "protocol",
    "queue-type",
    "redis-password",
    "redis-port",
    "redis-prefix",
    "redis-server",
    "ssl-ca-file",
    "ssl-certificate",
    "ssl-key",
    "threads",
    "user",
    "verbose",
    "worker-wakeup",
)
KNOWN = (*SWITCHES, *WITH_VALUE)


def full_name(name):
    """Return the long option that *name* is or abbreviates, *name* itself for an unknown one."""
    if name in KNOWN:
        return name
    candidates = [known for known in KNOWN if known.startswith(name)]
    return candidates[0] if len(candidates) == 1 else name


def file_words(text):
    """Return the options in a configuration file's text: gearmand ignores other words."""
    return [word for word in text.split() if word.startswith("-")]


def parsed(words):
    """Return {long option without dashes: value, True for one without}; the last one counts."""
    result = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = full_name(name)
        elif word.startswith("-") and word[1:2] in LETTERS:
            name, value = LETTERS[word[1]], word[2:]
            equals = value
            if name in SWITCHES and value:
                # Several letters in one word.
                rest.insert(0, f"-{value}")
        else:
            continue
        if name in SWITCHES:
            result[name] = True
        elif equals:
            result[name] = value
        elif rest and not rest[0].startswith("-"):
            result[name] = rest.pop(0)
        else:
            result[name] = True
    return result
