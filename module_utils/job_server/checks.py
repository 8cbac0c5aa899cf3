# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be seen on the host before and after gearmand is started. Each takes a state.State."""

from __future__ import annotations

import os
import tempfile

from ..failure import GearvisorError, Refused
from . import config, ports, service


def port(state):
    """Raise InvalidOption for a port that gearmand cannot have on this host."""
    settings, current = state.request.settings, state.current
    ports.check_privilege(settings.port)
    addresses = ports.local_addresses(settings.listen)
    own = (current.process, current.started.port) if current else ()
    ports.check_free(addresses, settings.port, *own)


def arguments(state, changes):
    """Let gearmand itself read the configuration, as its own user. Raises GearvisorError."""
    if config.CONFIG not in changes:
        return
    text = config.config_text(state.request.settings)
    with tempfile.NamedTemporaryFile("w", prefix="gearmand-", suffix=".conf") as candidate:
        os.fchown(candidate.fileno(), 0, service.group_id())
        os.fchmod(candidate.fileno(), 0o640)
        candidate.write(text)
        candidate.flush()
        rc, out, err = state.host.run(
            [config.GEARMAND, "--check-args", f"--config-file={candidate.name}"], user=config.USER
        )
    if rc != 0:
        raise GearvisorError(
            f"gearmand refuses the configuration: {(err or out).strip()}. Nothing was written; "
            "correct that option"
        )


def queue_place(state):
    """Raise Refused when gearmand's user cannot write the queue's file and beside it.

    SQLite makes its journal beside the file.
    """
    path = state.request.settings.queue.path
    if path is None:
        return
    for place in (os.path.dirname(path), path):
        real = state.host.path(place)
        if place == path and not os.path.lexists(real):
            continue
        if state.host.run(["test", "-w", real], user=config.USER)[0] != 0:
            raise Refused(
                "queue.path",
                path,
                f"cannot be used: user {config.USER} may not write to {place}",
                f"Give {config.USER} that right and access to what is above it, or choose another path",
            )


def file_limit(state):
    """Warn when the server that runs has fewer files than asked for."""
    wanted, process = state.request.settings.file_descriptors, state.keeper.process()
    limit = process.file_limit() if process else None
    if wanted and limit and limit < wanted and state.request.restart != "never":
        state.warnings.append(
            f"file_descriptors: this host allows gearmand only {limit} of {wanted}"
        )
