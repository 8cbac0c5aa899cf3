# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker on gear that ./run bench worker measures: PORT CLIENT_ID."""

import sys

import gear

port, client_id = sys.argv[1:]
worker = gear.Worker(client_id)
worker.addServer("127.0.0.1", int(port))
worker.waitForServer()
worker.registerFunction("echo")
while True:
    job = worker.getJob()
    job.sendWorkComplete(job.arguments)
