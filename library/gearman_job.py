#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_job
short_description: Submit a Gearman job and check its answer
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Submits a job from the target host and returns what the worker answered, so that a play can check
    that jobs are answered.
options:
  function:
    description: The function to be run.
    type: str
    required: true
  data:
    description: The payload as text, sent as UTF-8.
    type: str
  data_base64:
    description: The payload as Base64, for binary data.
    type: str
  servers:
    description: Job servers as V(host:port), tried in random order until one accepts the job.
    type: list
    elements: str
    default: ["127.0.0.1:4730"]
  background:
    description: Return once the job is queued, without an answer.
    type: bool
    default: false
  priority:
    description: The job's priority among those of its function.
    type: str
    choices: [high, normal, low]
    default: normal
  unique:
    description: >-
      Unique id. A job whose function and unique id are queued already is not queued again. Unset, one
      is generated.
    type: str
  timeout:
    description: Seconds for all of it, connecting included; more than 0 and at most 3600.
    type: float
    default: 10
  expect:
    description: The expected answer. Any other fails the task.
    type: str
attributes:
  check_mode: {support: full, description: Checks the values and submits nothing; the task is skipped.}
  diff_mode: {support: none, description: A job has no state that could be compared.}
  idempotent:
    support: partial
    description: >-
      Reports a change only for a background job. What a function changes is not known here; state
      it with C(changed_when).
"""

EXAMPLES = r"""
- name: Check that a job returns the expected answer
  gearman_job:
    function: reverse
    data: Hello
    expect: olleH

- name: Queue a nightly job
  gearman_job:
    function: report
    data: '{"month": "2026-10"}'
    servers: ["10.0.0.5:4730", "10.0.0.6:4730"]
    background: true
    unique: report-2026-10
"""

RETURN = r"""
result:
  description: The answer as text; invalid UTF-8 is replaced.
  returned: success, unless O(background=true)
  type: str
result_base64:
  description: The answer as Base64, exact.
  returned: success, unless O(background=true)
  type: str
handle:
  description: The job server's name for the job.
  returned: success
  type: str
  sample: H:worker1:42
unique:
  description: The job's unique id.
  returned: success
  type: str
server:
  description: The job server that took the job.
  returned: success
  type: str
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from ..module_utils import module
from ..module_utils.job_server import job

ARGUMENTS = {
    "function": {"type": "str", "required": True},
    "data": {"type": "str"},
    "data_base64": {"type": "str"},
    "servers": {"type": "list", "elements": "str", "default": ["127.0.0.1:4730"]},
    "background": {"type": "bool", "default": False},
    "priority": {"type": "str", "choices": ["high", "normal", "low"], "default": "normal"},
    "unique": {"type": "str"},
    "timeout": {"type": "float", "default": 10},
    "expect": {"type": "str"},
}


def main():
    module.run(
        ARGUMENTS,
        job.submit,
        root=False,
        changes_host=False,
        mutually_exclusive=[("data", "data_base64")],
    )


if __name__ == "__main__":
    main()
