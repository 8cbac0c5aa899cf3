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
author: Gearvisor contributors
description:
  - Submits a job from the target host and returns what the worker answered, so that a play can prove
    that jobs go there and back.
options:
  function:
    description: The function to be run.
    type: str
    required: true
  data:
    description: The payload as text, sent as UTF-8.
    type: str
  data_base64:
    description: The payload as Base64, for bytes that are no text.
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
      is made.
    type: str
  timeout:
    description: Seconds for all of it, connecting included.
    type: float
    default: 10
  expect:
    description: The answer that is right. Any other fails the task.
    type: str
attributes:
  check_mode: {support: full, description: Submits nothing; the task is skipped.}
  diff_mode: {support: none, description: A job is no state that could be compared.}
  idempotent:
    support: partial
    description: >-
      Reports a change only for a background job. What a function changes is not known here; say it
      with C(changed_when).
"""

EXAMPLES = r"""
- name: Jobs go there and back
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
  description: The answer as text; bytes that are no UTF-8 are replaced.
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

import base64
import binascii

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.failure import GearvisorError, InvalidOption
from ..module_utils.gearvisor.client import Client
from ..module_utils.gearvisor.errors import (
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    ServerUnavailable,
    SubmitError,
)

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

_WAYS_OUT = (
    (ServerUnavailable, "Start a job server there, or correct 'servers'"),
    (JobTimeout, "See with gearman_info that workers serve the function, or raise 'timeout'"),
    (SubmitError, "The job server's own words; see its log"),
    (JobException, "The function raised that; see the worker's log"),
    (JobFailed, "The worker gave no reason; see its log"),
)


def payload(params):
    """Return the payload as bytes. Raises InvalidOption for bad Base64."""
    if params["data_base64"] is None:
        return (params["data"] or "").encode()
    try:
        return base64.b64decode(params["data_base64"], validate=True)
    except binascii.Error as error:
        raise InvalidOption(
            "data_base64",
            params["data_base64"][:40],
            f"is no Base64: {error}",
            "Use the b64encode filter",
        ) from None


def submit(params):
    """Submit the job and return the module's result. Raises GearvisorError."""
    data = payload(params)
    if params["timeout"] <= 0:
        raise InvalidOption(
            "timeout", params["timeout"], "is not above 0", "Give seconds, such as 10"
        )
    if params["expect"] is not None and params["background"]:
        raise InvalidOption(
            "expect",
            params["expect"],
            "waits for an answer that a background job never gives",
            "Drop one",
        )
    try:
        with Client(params["servers"], timeout=params["timeout"]) as client:
            done = client.submit(
                params["function"],
                data,
                background=params["background"],
                priority=params["priority"],
                unique=params["unique"],
            )
    except ValueError as error:
        raise GearvisorError(f"{error}. Correct that option; nothing was submitted") from None
    except GearmanError as error:
        way_out = next(
            text
            for kind, text in _WAYS_OUT + ((GearmanError, "See its log"),)
            if isinstance(error, kind)
        )
        raise GearvisorError(f"function: {params['function']!r}: {error}. {way_out}") from None
    result = {
        "changed": params["background"],
        "handle": done.handle,
        "unique": done.unique,
        "server": done.server,
        "seconds": round(done.seconds, 6),
    }
    if not params["background"]:
        result["result"] = done.data.decode(errors="replace")
        result["result_base64"] = base64.b64encode(done.data).decode()
    if params["expect"] is not None and done.data != params["expect"].encode():
        raise GearvisorError(
            f"expect: {params['expect']!r} is not what {params['function']} answered: "
            f"{result['result']!r}. See which workers serve the function with gearman_info",
            **result,
        )
    return result


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        mutually_exclusive=[("data", "data_base64")],
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(skipped=True, changed=False, msg="No job is submitted in check mode")
    try:
        result = submit(module.params)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
