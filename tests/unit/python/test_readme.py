# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of python/README.md do what it says, with a real job server."""

from __future__ import annotations

import asyncio
import re
import textwrap
import threading
from pathlib import Path

from gearvisor.client import Client
from gearvisor.worker import Worker

README = Path(__file__).resolve().parents[3] / "python/README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)


def block(beginning, address):
    """The example that begins so, with the address of a job server here."""
    (found,) = [each for each in BLOCKS if each.startswith(beginning)]
    return re.sub(r"10\.0\.0\.\d:4730", address, found)


def test_the_synchronous_examples(job_server, monkeypatch, wait_until):
    functions = {}
    exec(block("# thumbnails.py", job_server.address), functions)
    assert list(functions["FUNCTIONS"]) == ["resize"]
    workers = []
    run = Worker.run

    def run_aside(worker, handle_signals):
        assert handle_signals
        workers.append(worker)
        threading.Thread(target=run, args=[worker], daemon=True).start()

    monkeypatch.setattr(Worker, "run", run_aside)
    names = {"resize": lambda job: job.data.upper()}
    exec(block("from gearvisor.worker", job_server.address), names)
    wait_until(lambda: job_server.worker_ids("resize") == ["web1-thumbnails-00"], "its worker")
    exec(block("from gearvisor.client", job_server.address), names)
    assert names["result"].data == b'{"ID": 7}'
    workers[0].stop()
    wait_until(lambda: not job_server.worker_ids("resize"), "no worker")
    with Client([job_server.address]) as client:
        waiting = client.submit("resize", background=True)
    administer = block("from gearvisor.admin", job_server.address)
    exec(administer.replace("H:web1:12", waiting.handle), names)
    assert job_server.status("resize") == (0, 0, 0)


def test_the_asynchronous_example(job_server, serve):
    """Its client; its worker needs somebody else's HTTP server."""
    serve([job_server.address], {"resize": lambda job: job.data})
    code = block("from gearvisor import aio", job_server.address).partition("\n\n\n")[0]
    body = textwrap.indent(code.replace("from gearvisor import aio\n", ""), "    ")
    names = {"asyncio": asyncio, "orders": [b"1", b"2"]}
    exec(f"from gearvisor import aio\nasync def main():\n{body}\n    return results", names)
    assert [each.data for each in asyncio.run(names["main"]())] == [b"1", b"2"]
