# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Submits one job and checks its answer: the module gearman_job."""

from __future__ import annotations

import base64
import binascii

from ..failure import GearvisorError, InvalidOption
from ..gearvisor.client import Client
from ..gearvisor.errors import (
    GearmanError,
    JobException,
    JobFailed,
    JobTimeout,
    ServerUnavailable,
    SubmitError,
)
from ..gearvisor.protocol import check_function, check_unique
from ..outcome import Outcome
from .info import check_servers, check_timeout

_WAYS_OUT = (
    (ServerUnavailable, "Start a job server there, or correct 'servers'"),
    (JobTimeout, "See with gearman_info that workers serve the function, or raise 'timeout'"),
    (SubmitError, "The job server reported that; see its log"),
    (JobException, "The function raised that; see the worker's log"),
    (JobFailed, "The worker gave no reason; see its log"),
)


def payload(params):
    """Return the payload as bytes. Raises InvalidOption for bad Base64."""
    if params["data_base64"] is None:
        return _encoded("data", params["data"] or "")
    try:
        return base64.b64decode(params["data_base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidOption(
            "data_base64",
            params["data_base64"][:40],
            f"is not Base64: {error}",
            "Use the b64encode filter",
        ) from None


def _encoded(option, text):
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidOption(
            option, text[:40], "holds an incomplete character", "Use data_base64 for bytes"
        ) from None


def check(params):
    """Return the payload; raises InvalidOption for values that cannot work."""
    data = payload(params)
    check_servers(params["servers"])
    check_timeout(params["timeout"])
    for option, check_value in (("function", check_function), ("unique", check_unique)):
        try:
            if params[option] is not None:
                check_value(params[option])
        except ValueError as error:
            raise InvalidOption(
                option, params[option], f"cannot be used: {error}", "Correct it"
            ) from None
    if params["expect"] is not None:
        _encoded("expect", params["expect"])
        if params["background"]:
            raise InvalidOption(
                "expect",
                params["expect"],
                "waits for an answer that a background job never gives",
                "Leave one out",
            )
    return data


def submit(params, host):
    """Submit the job and return the module's Outcome. Raises GearvisorError."""
    data = check(params)
    if host.check_mode:
        skipped = {"skipped": True, "msg": "No job is submitted in check mode"}
        return Outcome(details=skipped)
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
    return Outcome(changed=params["background"], details=result)
