# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Warns of variables that look like those of Gearvisor's roles and are none of them.

Ansible ignores a variable that no task reads, so a mistyped one changes nothing, in silence. This runs
the module of the same name as Ansible would without it, and adds the warnings to its result; it costs
no task and no connection. The other files of this folder are links to this one: one for the main module
of each role.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from ansible.plugins.action.normal import ActionModule as NormalAction

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAME = re.compile(r"^ {0,6}(\w+):", re.MULTILINE)


def known_variables(roles: Path) -> set[str]:
    """Return every name that the roles' defaults and argument specs mention, and some more.

    Their files are scanned, not parsed as YAML, which would take a tenth of a second a task.
    """
    names = {"gearman_servers"}
    for pattern in ("*/defaults/main.yml", "*/vars/main.yml", "*/meta/argument_specs.yml"):
        for path in roles.glob(pattern):
            names.update(NAME.findall(path.read_text(encoding="utf-8")))
    return names


def mistyped(given: set[str], known: set[str], roles: set[str]) -> dict[str, str]:
    """Return {variable: the known one that is near, or ""}.

    Suspicious is a name with a role's prefix, and one that is nearly the same as a known one.
    """
    found = {}
    for name in sorted(given - known):
        prefix = next(
            (role for role in sorted(roles, reverse=True) if name.startswith(f"{role}_")), ""
        )
        same_role = [each for each in known if prefix and each.startswith(f"{prefix}_")]
        rest = {each[len(prefix) :]: each for each in same_role}
        near = difflib.get_close_matches(name[len(prefix) :], rest, n=1, cutoff=0.6)
        if prefix and near:
            found[name] = rest[near[0]]
        elif prefix.startswith("gearman_"):
            found[name] = ""
        elif name.startswith(("gearman", "supervisor")):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
            if near:
                found[name] = near[0]
    return found


def sentence(name: str, near: str) -> str:
    if near:
        return (
            f"{name} is not a variable of Gearvisor's roles and has no effect. Did you mean {near}?"
        )
    return (
        f"{name} is not a variable of Gearvisor's roles and has no effect on them. Their READMEs list"
        " all variables; give one of your own another prefix."
    )


class ActionModule(NormalAction):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        role = self._task._role
        if role is not None and Path(role._role_path).resolve().parent == ROLES:
            given = {name for name in task_vars if name.startswith(("gearman", "supervisor"))}
            known = known_variables(ROLES)
            wrong = mistyped(given, known, {path.name for path in ROLES.iterdir()})
            if wrong:
                warnings = [sentence(name, near) for name, near in wrong.items()]
                result["warnings"] = [*result.get("warnings", []), *warnings]
        return result
