# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module: what all of them have in common stands between Ansible and their logic."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
import traceback

from ansible.module_utils.basic import AnsibleModule

from . import recovery
from .failure import GearvisorError, Interrupted, InvalidOption
from .host import lock, release, temporary
from .host.host import Host

# The options of every module that changes a host.
HOST_ARGUMENTS = {
    "lock_timeout": {"type": "int", "default": 300},
    "untested_release": {"type": "bool", "default": False},
}
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_MAX_LOCK_SECONDS = 24 * 60 * 60
_REPORT = "https://github.com/gearvisor/gearvisor/issues"


def run(
    arguments,
    converge,
    root=True,
    changes_host=True,
    module_class=AnsibleModule,
    shown=None,
    secrets=None,
    **options,
):
    """Run a module to its end: exit_json or fail_json.

    *arguments* is the argument specification, with HOST_ARGUMENTS for a module that changes the
    host. *converge(params, host)* returns an Outcome and raises GearvisorError. *root*: it has to
    run as root, on a supported Debian. *changes_host*: it takes the host's lock, and takes back
    what interrupted runs have left. *shown(params)* returns the parameters that may be shown, of a
    module whose secrets Ansible cannot find by their options; *secrets(params)* returns texts that
    are masked in every output. *options* are AnsibleModule's.
    """
    module = module_class(argument_spec=arguments, supports_check_mode=True, **options)
    extra = {}
    if shown is not None:
        extra["invocation"] = {"module_args": shown(module.params)}
    if secrets is not None:
        module.no_log_values |= set(secrets(module.params))
    name = pathlib.Path(module._name or "gearvisor").name
    # What stands in a command is meant as it is: "$HOME" in an option is not a variable.
    run_command = functools.partial(module.run_command, expand_user_and_vars=False)
    host = Host(run_command, module.check_mode, module=name)
    try:
        with _interruptible():
            outcome = _converged(module.params, converge, host, root, changes_host)
    except GearvisorError as error:
        module.fail_json(msg=str(error), **error.details, **extra)
    except Interrupted as error:
        module.fail_json(
            msg=f"Ended by {error.signal_name}: its changes were undone, as far as possible. "
            "Run it again; it takes back what is left",
            **extra,
        )
    except OSError as error:
        module.fail_json(
            msg=f"An operation on this host failed: {error}. Correct the cause, then run this again",
            exception=traceback.format_exc(),
            **extra,
        )
    except Exception as error:
        module.fail_json(
            msg=_unexpected(error, hidden=shown is not None),
            exception=_trace(error, hidden=shown is not None),
            **extra,
        )
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**outcome.as_result(), **extra)


def _converged(params, converge, host, root, changes_host):
    if root:
        _check_root()
        release.check_supported(host.path(release.OS_RELEASE), params["untested_release"])
    with temporary.directory():
        if not changes_host or os.geteuid() != 0:
            return converge(params, host)
        return _changed(params, converge, host)


def _changed(params, converge, host):
    seconds = params["lock_timeout"]
    if not 0 <= seconds <= _MAX_LOCK_SECONDS:
        raise InvalidOption(
            "lock_timeout", seconds, "is out of range", f"Use 0 to {_MAX_LOCK_SECONDS} seconds"
        )
    if host.check_mode:
        reports = recovery.report(host)
        outcome = converge(params, host)
        outcome.warnings[:0] = reports
        return outcome
    with lock.held(host, seconds) as reports:
        reports += recovery.recover(host, seconds)
        outcome = converge(params, host)
    outcome.warnings[:0] = reports
    return outcome


def _check_root():
    if os.geteuid() != 0:
        raise GearvisorError("This changes the host and must run as root. Set become: true")


@contextlib.contextmanager
def _interruptible():
    """For the block, let a signal raise Interrupted, so that what was changed is put back."""
    former = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _interrupt(number, _frame):
    # Once: a second signal must not interrupt the restoring of the old state.
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


def _unexpected(error, hidden):
    text = "" if hidden else f": {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{pathlib.Path(place.filename).name}, line {place.lineno}"
    return (
        f"Gearvisor failed in a way that it does not expect ({where}): {type(error).__name__}{text}. "
        f"Please report this with the lines under 'exception': {_REPORT}"
    )


def _trace(error, hidden):
    """Return the traceback; the exceptions' own texts are left out where they may hold secrets."""
    if not hidden:
        return traceback.format_exc()
    with contextlib.suppress(Exception):
        return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__
    return type(error).__name__
