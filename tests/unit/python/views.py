# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Views for the tests of what is made of them."""

from __future__ import annotations

from gearvisor import status_file
from gearvisor.admin_replies import FunctionStatus
from gearvisor.observe import Process, Server, View, Worker

NOW = 1_764_000_000.0


def server(address="10.0.0.5:4730", **functions):
    oldest = functions.pop("oldest", None)
    counts = {name: FunctionStatus(*numbers) for name, numbers in functions.items()}
    return Server(address, True, 0.002, "", "1.1.21+ds", counts, oldest)


def down(address="10.0.0.6:4730", error="Connection refused"):
    return Server(address, False, 2.0, error)


def job(function="resize", since=NOW - 5, unique="u-1"):
    return {
        "function": function,
        "handle": "H:web1:1",
        "unique": unique,
        "since": since,
        "wait": 0.1,
    }


def worker(name="mail_01", alive=True, **facts):
    """A worker that does resize; facts: members of its status file that differ."""
    tally = {"done": 0, "failed": 0, "seconds": 0.0,
             "waits": {"count": 0, "seconds": 0.0, "max": 0.0, "last": 0.0}}  # fmt: skip
    document = status_file.parse(b"{}")
    document.update(program="mail", process=name, pid=42, started=NOW - 100, updated=NOW, rss=14.0,
                    functions={"resize": tally}, servers={"10.0.0.5:4730": True})  # fmt: skip
    document.update(facts)
    return Worker("mail", name, alive, document)


def process(name="mail_01", state="RUNNING", failures=0):
    return Process("mail", name, state, NOW - 50, (NOW - 1,) * failures)


def tally(done=0, failed=0, seconds=0.0, waits=(0, 0.0, 0.0)):
    count, total, most = waits
    return {"done": done, "failed": failed, "seconds": seconds,
            "waits": {"count": count, "seconds": total, "max": most, "last": most}}  # fmt: skip


def view(*servers, **rest):
    return View(NOW, servers or (server(),), **rest)
