# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker on pygearman that ./run bench worker measures: PORT CLIENT_ID."""

import sys

import gearman


def echo(_worker, job):
    return job.data


port, client_id = sys.argv[1:]
worker = gearman.GearmanWorker([f"127.0.0.1:{port}"])
worker.set_client_id(client_id.encode())
# Of bytes: given as text, the name does not match that of the job, and the worker dies.
worker.register_task(b"echo", echo)
worker.work(poll_timeout=1.0)
