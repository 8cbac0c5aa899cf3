# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisord's XML-RPC interface over its unix socket, standard library only.

Source: Supervisor's documentation, "XML-RPC API Documentation", and
supervisor.xmlrpc.Faults. Calls never wait inside supervisord (wait=False), so
an interrupted play leaves no request behind.
"""

from __future__ import annotations

import base64
import collections
import configparser
import http.client
import os
import re
import socket
import time
import xml.parsers.expat
import xmlrpc.client
from typing import NamedTuple

from ..failure import GearvisorError
from ..host.files import read_text
from .log_tail import REPLACEMENT, tail

STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL, UNKNOWN = (
    "STOPPED",
    "STARTING",
    "RUNNING",
    "BACKOFF",
    "STOPPING",
    "EXITED",
    "FATAL",
    "UNKNOWN",
)
# A group whose processes are all in one of these can be removed.
AT_REST = frozenset({STOPPED, EXITED, FATAL, UNKNOWN})

_BAD_NAME = 10
_SPAWN_ERROR = 50
_ALREADY_STARTED = 60
_NOT_RUNNING = 70
_ALREADY_ADDED = 90
_STILL_RUNNING = 91
_CANT_REREAD = 92
_DAEMON_RUNNING = 1
_LOG_BYTES = 65536  # of supervisord's own log, from its end


# What XML 1.0 has no place for, besides surrogates.
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class SupervisordUnavailable(GearvisorError):
    """supervisord does not answer on its socket."""


class PasswordWanted(SupervisordUnavailable):
    """supervisord answers, and takes no call without its right password."""


class StillRunning(GearvisorError):
    """A group cannot be removed: supervisord has started one of its processes again."""


class ConfigRefused(GearvisorError):
    """supervisord cannot read its configuration files; what runs is untouched."""


class Process(NamedTuple):
    group: str
    name: str
    state: str
    pid: int
    seconds: int
    reason: str

    @property
    def full_name(self):
        return f"{self.group}:{self.name}"


class Delta(NamedTuple):
    """Group names by which the configuration files differ from what is loaded."""

    added: frozenset
    changed: frozenset
    removed: frozenset


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path, timeout, headers):
        super().__init__(headers=headers)
        self._path = path
        self._timeout = timeout

    def make_connection(self, host):
        if not self._connection or self._connection[0] != host:
            self._connection = host, _UnixConnection(self._path, self._timeout)
        return self._connection[1]

    def parse_response(self, response):
        """Read the answer. supervisord puts texts into it that XML does not allow, as they are."""
        parser, unmarshaller = self.getparser()
        text = response.read().decode("utf-8", "replace")
        parser.feed(_NOT_XML.sub(REPLACEMENT, text).encode())
        parser.close()
        return unmarshaller.close()


def socket_settings(text, here):
    """Return (path, username, password) of [unix_http_server] in supervisord.conf's text."""
    parser = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    server = (
        dict(parser.items("unix_http_server")) if parser.has_section("unix_http_server") else {}
    )
    path = server.get("file", "/run/supervisor.sock").replace("%(here)s", here)
    return path, server.get("username"), server.get("password", "").replace("%%", "%")


def of_config(path):
    """Return the Supervisord that the supervisord.conf at *path* sets up. Raises GearvisorError."""
    try:
        settings = socket_settings(read_text(path) or "", os.path.dirname(path))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise GearvisorError(
            f"{path} is broken: {error}. Correct it, then run this again. Nothing was written"
        ) from None
    return Supervisord(*settings)


class Supervisord:
    """One running supervisord, by its unix socket."""

    def __init__(self, path, username=None, password=None, timeout=30):
        self.path = path
        self._has_password = bool(username)
        headers = []
        if username:
            token = base64.b64encode(f"{username}:{password}".encode()).decode()
            headers.append(("Authorization", f"Basic {token}"))
        self._proxy = xmlrpc.client.ServerProxy(
            "http://localhost", transport=_UnixTransport(path, timeout, headers)
        )
        self._rpc = self._proxy.supervisor

    def wait_ready(self, seconds):
        """Return once supervisord accepts calls; it may be starting or restarting.

        Raises SupervisordUnavailable after *seconds*.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                state = self._rpc.getState()
                if state["statecode"] == _DAEMON_RUNNING:
                    return
                reason = f"it is in state {state['statename']}"
            except xmlrpc.client.ProtocolError as error:
                if error.errcode == http.client.UNAUTHORIZED:
                    raise self._wrong_password() from None
                reason = f"it answers {error.errcode} {error.errmsg}"
            except xmlrpc.client.Fault as error:
                reason = error.faultString
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)
            if time.monotonic() >= deadline:
                raise SupervisordUnavailable(
                    f"supervisord does not answer on {self.path} after {seconds} s: {reason}. Start it "
                    "('systemctl start supervisor' or 'service supervisor start'), or see why it does "
                    "not start in /var/log/supervisor/supervisord.log and 'journalctl -u supervisor'",
                    needs="supervisord",
                )
            time.sleep(0.2)

    def _wrong_password(self):
        what = "another password than the one" if self._has_password else "a password, which is not"
        return PasswordWanted(
            f"The socket requires a password (401 Unauthorized): supervisord's {self.path} wants {what} in "
            "[unix_http_server] of its main file, supervisord.conf. Write 'username' and 'password' there, not into "
            "conf.d and not as a {SHA} hash, and restart supervisord if they have changed"
        )

    def version(self):
        return self._rpc.getSupervisorVersion()

    def pid(self):
        return self._rpc.getPID()

    def reload_config(self):
        """Make supervisord read its files again; starts and stops nothing.

        Raises ConfigRefused with supervisord's own text when a file is wrong.
        """
        try:
            added, changed, removed = self._rpc.reloadConfig()[0]
        except xmlrpc.client.Fault as error:
            if error.faultCode != _CANT_REREAD:
                raise
            raise ConfigRefused(error.faultString.partition(": ")[2] or error.faultString) from None
        return Delta(frozenset(added), frozenset(changed), frozenset(removed))

    def processes(self, group=None):
        """Return [Process] of that group, or of all groups that are loaded and not empty."""
        return [
            _process(info)
            for info in self._rpc.getAllProcessInfo()
            if group in (None, info["group"])
        ]

    def processes_named(self, full_names):
        """Return [Process] of those of these names that there are."""
        if not full_names:
            return []
        calls = [
            {"methodName": "supervisor.getProcessInfo", "params": [name]} for name in full_names
        ]
        # An answer is a process, or a fault: there is none of that name.
        answers = self._proxy.system.multicall(calls)
        return [_process(answer) for answer in answers if "faultCode" not in answer]

    def add_group(self, group):
        self._ask("addProcessGroup", group, unless=[_ALREADY_ADDED])

    def stop_group(self, group):
        self._ask("stopProcessGroup", group, False, unless=[_BAD_NAME])

    def remove_group(self, group):
        self._ask("removeProcessGroup", group, unless=[_BAD_NAME])

    def start_process(self, full_name):
        """Start the process; whether it comes up is in its state.

        One that ends before supervisord has answered is a SPAWN_ERROR, and a moment later none:
        supervisord tries it again either way.
        """
        self._ask("startProcess", full_name, False, unless=[_ALREADY_STARTED, _SPAWN_ERROR])

    def signal_process(self, full_name, signal):
        self._ask("signalProcess", full_name, signal, unless=[_NOT_RUNNING])

    def last_output(self, full_name, size=2000):
        """Return the end of the process's error log, or of its output when that is where errors go."""
        try:
            info = self._rpc.getProcessInfo(full_name)
        except (xmlrpc.client.Fault, xmlrpc.client.ProtocolError):
            return ""
        texts = (tail(info[f"{channel}_logfile"], size) for channel in ("stderr", "stdout"))
        return next(filter(None, texts), "")

    def last_exit(self, process):
        """Return how a process of this name last ended by itself, by supervisord's own log; "" if unknown.

        For example "exit status 1" or "terminated by SIGSEGV".
        """
        try:
            log = self._rpc.readLog(-_LOG_BYTES, 0)
        except (xmlrpc.client.Error, xml.parsers.expat.ExpatError):
            return ""
        found = re.findall(
            rf"exited: {re.escape(process)} \((.*?)(?:; \w.*)?\)$", log, re.MULTILINE
        )
        return found[-1] if found else ""

    def last_lines(self, group, number=15):
        """Return last_output of the group's first process, so many lines; "" when it has none."""
        for info in self.processes(group):
            return "\n".join(self.last_output(info.full_name).splitlines()[-number:])
        return ""

    def _ask(self, method, *arguments, unless):
        """Call *method*; the fault codes *unless* mean that there is nothing more to ask for."""
        try:
            getattr(self._rpc, method)(*arguments)
        except xmlrpc.client.Fault as error:
            if error.faultCode not in unless:
                failure = StillRunning if error.faultCode == _STILL_RUNNING else GearvisorError
                raise failure(
                    f"supervisord refuses {method}({', '.join(map(str, arguments))}): {error.faultString}. "
                    "See its log, /var/log/supervisor/supervisord.log"
                ) from None


def _process(info):
    """Return the Process of what getProcessInfo answers."""
    return Process(
        info["group"],
        info["name"],
        info["statename"],
        info["pid"],
        info["now"] - info["start"] if info["statename"] == RUNNING else 0,
        info["spawnerr"],
    )


def drift(supervisord):
    """Return (groups whose definition on disk is not what is loaded, whether the files are broken)."""
    if supervisord is None:
        return frozenset(), False
    try:
        delta = supervisord.reload_config()
    except ConfigRefused:
        return frozenset(), True
    return delta.added | delta.changed | delta.removed, False


def by_group(processes):
    """Return {group: [Process]}."""
    groups = collections.defaultdict(list)
    for process in processes:
        groups[process.group].append(process)
    return dict(groups)


def loaded(supervisord):
    """Return {group: [Process]} of all that is loaded; {} without a supervisord."""
    return by_group(supervisord.processes()) if supervisord else {}


def environment(supervisord):
    """Return supervisord's own environment, in which its files are expanded."""
    if supervisord is None:
        return dict(os.environ)
    try:
        with open(f"/proc/{supervisord.pid()}/environ", "rb") as file:
            pairs = [
                entry.decode(errors="surrogateescape").partition("=")
                for entry in file.read().split(b"\0")
            ]
    except OSError:
        return dict(os.environ)
    return {name: value for name, separator, value in pairs if separator}
