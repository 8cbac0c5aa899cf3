# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module's logic returns, and the runner turns into Ansible's result."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Outcome:
    """What a module did, or would do in check mode; the keys of its result.

    *actions*: what was done, as texts. *files*: paths written or removed. *diff*: Ansible's diff
    entries. *details*: the result keys of this module alone.
    """

    changed: bool = False
    actions: list = dataclasses.field(default_factory=list)
    files: list = dataclasses.field(default_factory=list)
    diff: list = dataclasses.field(default_factory=list)
    warnings: list = dataclasses.field(default_factory=list)
    details: dict = dataclasses.field(default_factory=dict)

    def as_result(self):
        """Return the module's result, without the warnings."""
        common = {name: list(getattr(self, name)) for name in ("actions", "files", "diff")}
        return {"changed": self.changed, **common, **self.details}


def prepared(actions):
    """Return the diff entries that list actions: what a run does besides writing files."""
    return [{"prepared": "".join(f"{action}\n" for action in actions)}] if actions else []
