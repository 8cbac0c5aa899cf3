# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Warns of variables that look like those of Gearvisor's roles and are none of them, and shows rollouts.

Ansible ignores a variable that no task reads, so a mistyped one changes nothing, in silence. This runs
the module of the same name as Ansible would without it, and adds the warnings to its result; it costs
no task and no connection. Ansible prints nothing either until a task ends. A rollout may take minutes, so while one
runs this reads the file that supervisor_programs keeps of it, and prints where it is.

The other files of this folder are links to this one: one for the main module of each role.
"""

from __future__ import annotations

import contextlib
import contextvars
import difflib
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible.utils.display import Display

# What module_utils/supervisor/progress.py keeps; anybody may read it.
ROLLOUT = "/run/gearvisor/rollout.json"
ROLLOUT_SECONDS = 5

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAME = re.compile(r"^ {0,6}(\w+):", re.MULTILINE)
# What a playbook asks for, whether or not it is there.
ASKED = re.compile(r"\b(gearman_\w+) \| default")
# Groups of the inventory, and the variables that are meant where they are given as such.
GROUPS = {"gearman_job_servers": "gearman_servers", "gearman_workers": "gearman_worker_programs"}


def known_variables(roles: Path) -> set[str]:
    """Return every name that the roles' defaults, their argument specs and the playbooks mention, and some more.

    Their files are scanned, not parsed as YAML, which would take a tenth of a second a task.
    """
    names = {"gearman_servers"}
    for pattern in ("*/defaults/main.yml", "*/vars/main.yml", "*/meta/argument_specs.yml"):
        for path in roles.glob(pattern):
            text = path.read_text(encoding="utf-8")
            names.update(NAME.findall(text), ASKED.findall(text))
    for path in (roles.parent / "playbooks").glob("*.yml"):
        names.update(ASKED.findall(path.read_text(encoding="utf-8")))
    return names


def mistyped(given: set[str], known: set[str], roles: set[str]) -> dict[str, str]:
    """Return {variable: the known one that is near, or ""}.

    Suspicious is a name with a role's prefix, and one that is nearly the same as a known one.
    """
    found = {name: GROUPS[name] for name in sorted(given & GROUPS.keys())}
    for name in sorted(given - known - GROUPS.keys()):
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


def rollout_line(text: str) -> str:
    """Return the sentence about a rollout from its file, or nothing for what is none."""
    try:
        known = json.loads(text)
        parts = []
        for program, facts in sorted(known["programs"].items()):
            total, left = int(facts["total"]), int(facts["left"])
            line = f"{program} {total - left} of {total}"
            if facts.get("jobs"):
                line += f" ({int(facts['jobs'])} jobs, {int(facts.get('failed') or 0)} failed)"
            parts.append(line)
        verb = "rolled back" if known["phase"] == "roll-back" else "rolled out"
        fleet = str(known["fleet"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    line = f"{fleet} is {verb}: {', '.join(parts) or 'begun'}"
    # The names are the host's: no control characters on this terminal.
    return re.sub(r"[^\x20-\x7e]", "?", line)[:1000]


@contextlib.contextmanager
def shown(read: Callable[[], str], show: Callable[[str], object]) -> Iterator[None]:
    """While the block runs, show each new line about the rollout; a host that does not answer is left alone."""
    over = threading.Event()

    def watch() -> None:
        last = ""
        while not over.wait(ROLLOUT_SECONDS):
            try:
                line = rollout_line(read())
            except Exception:
                return
            if line and line != last and not over.is_set():
                show(line)
                last = line

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(watch,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class ActionModule(NormalAction):
    def run(self, tmp=None, task_vars=None):
        with self._rollout_shown(task_vars):
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

    def _rollout_shown(self, task_vars):
        rolls_out = self._task.action.rpartition(".")[2] == "supervisor_programs"
        if not rolls_out or self._task.check_mode or self._task.async_val:
            return contextlib.nullcontext()
        host = task_vars.get("inventory_hostname", "")

        def read() -> str:
            return self._low_level_execute_command(f"cat {ROLLOUT}", sudoable=False)["stdout"]

        return shown(read, lambda line: Display().display(f"[{host}] {line}"))
