# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which workers serve which functions, by the job servers' own word (admin command `workers`)."""

from __future__ import annotations

import collections
import time
from typing import NamedTuple

from ..gearvisor.admin import Admin
from ..gearvisor.errors import GearmanError

_TIMEOUT = 2  # seconds that a job server has to answer
_ASK_AGAIN = 0.5  # seconds
_ASK_DOWN_AGAIN = 5  # seconds, when it did not answer


class Registered(NamedTuple):
    """The workers of one job server.

    ours: {worker name: {pid: words}} of client ids NAME#PID; words are those of all its
    functions, since the reply separates functions by blanks, which their names may hold.
    ids: {client id: words} of all. others: {function: how many connections of others serve it}.
    """

    ours: dict
    ids: dict
    others: dict


def registered(connections):
    """Return the Registered of what Admin.workers() returned."""
    ours, ids, others = {}, {}, collections.Counter()
    for connection in connections:
        ids.setdefault(connection.client_id, set()).update(words(connection.functions))
        name, _hash, pid = connection.client_id.rpartition("#")
        if "/" in name and pid.isdecimal():
            ours.setdefault(name, {}).setdefault(int(pid), set()).update(
                words(connection.functions)
            )
        else:
            others.update(connection.functions)
    return Registered(ours, ids, dict(others))


def words(functions):
    """Return the set of words of the functions' names, as Registered has them."""
    return {word for function in functions for word in function.split()}


class JobServers:
    """Asks job servers, each at most twice a second, and remembers those that do not answer."""

    def __init__(self):
        self._answers = {}
        self.down = {}

    def registered(self, servers):
        """Return {server: Registered} of those of *servers* ("host:port") that answer."""
        answers = {server: self._answer(server) for server in servers}
        return {server: answer for server, answer in answers.items() if answer is not None}

    def _answer(self, server):
        due, answer = self._answers.get(server, (0, None))
        if time.monotonic() >= due:
            try:
                with Admin(server, timeout=_TIMEOUT) as admin:
                    answer = registered(admin.workers())
            except (GearmanError, ValueError) as error:
                answer, self.down[server] = None, str(error)
            pause = _ASK_DOWN_AGAIN if answer is None else _ASK_AGAIN
            self._answers[server] = time.monotonic() + pause, answer
        return answer
