# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out what fleet.py has decided: files, processes and links change together, or come back."""

from __future__ import annotations

import http.client
import os
import time

from ..failure import GearvisorError
from ..host.changes import ChangeSet
from ..host.host import Host as TargetHost
from . import config_file, ownership, places, plan, release, requirements, rollout, rpc, watch
from .program_files import sections_in
from .progress import Progress

# Program files may hold secrets in environment=.
_FILE_MODE = 0o640


class Run:
    """One change of the host: writes the files, carries the plan out, or puts all back."""

    def __init__(self, request, supervisord, where, wanted, files, old, owned):
        """*owned*: {group: Section} of all that the fleet may have loaded, listed or not."""
        self._request = request
        self._supervisord = supervisord
        self._where = where
        self._wanted = wanted
        self._files = files
        self._old = old
        self._new = wanted.sections
        self._owned = owned
        self._note = ownership.path(where.fleets, request.fleet)
        self._began = time.monotonic()
        self._rollout = None

    def note_owned(self, loaded):
        """Note the groups that are the fleet's and loaded, and the releases before."""
        kept = {group: section for group, section in self._owned.items() if group in loaded}
        moved = {
            link.path: link.before for link in self._wanted.links if link.before and link.changes
        }
        before = {**ownership.previous(self._note), **moved}
        ownership.write(self._note, {**kept, **self._new}, before=before)

    def apply(self, decided, loaded, missing):
        """Write the files and carry the plan out.

        *loaded* is {group: [Process]} before. Returns it as it is afterwards, and what to add to the result.
        """
        releases = {link.path: link.after for link in self._wanted.links}
        progress = Progress(self._where.runtime, self._request.fleet, releases or None)
        changes = ChangeSet(TargetHost(self._where.run))
        for path, text in self._files.after.items():
            changes.want(path, text, _FILE_MODE, os.geteuid(), os.getegid(), config_file.masked)
        for path, text in self._files.adopted.items():
            changes.want(f"{path}.adopted", text, _FILE_MODE, os.geteuid(), os.getegid())
        if self._request.inventory_hostname:
            users = places.users_of(self._new.values())
            if users:
                places.make_group(self._where.run, self._where.group)
            places.want(changes, self._where, self._request.fleet, users)
        ownership.write(self._note, {**self._owned, **self._new}, decided.restart)
        made = requirements.make_directories(missing, self._request.trusted_users)
        try:
            with changes.applied():
                decided = self._carry_out(decided, loaded, progress)
        except BaseException as error:
            progress(phase="roll-back")
            back = self._roll_back()
            requirements.remove_directories(made)
            progress.end()
            if not isinstance(error, (GearvisorError, OSError, http.client.HTTPException)):
                raise
            raise self._failure(error, back) from error
        progress.end()
        loaded = rpc.loaded(self._supervisord)
        self.note_owned(loaded)
        verdicts = self._rollout.verdicts
        added = {
            "plan": decided.as_result(),
            "seconds": round(time.monotonic() - self._began, 1),
            "warnings": self._rollout.warnings,
        }
        if verdicts:
            added["proved"] = all(verdict.proved for verdict in verdicts.values())
            added["watched"] = {
                program: {"jobs": verdict.jobs, "failed": verdict.failed, "proved": verdict.proved}
                for program, verdict in verdicts.items()
            }
        return loaded, added

    def _carry_out(self, decided, loaded, progress):
        self._move("first")
        decided = plan.confirmed(decided, self._supervisord.reload_config(), self._old, self._new)
        self._rollout = rollout.Rollout(
            self._supervisord,
            loaded,
            self._old,
            self._new,
            self._request.pace(),
            self._where,
            self._wanted.functions(),
            progress,
            together=any(link.changes for link in self._wanted.links),
        )
        self._rollout.carry_out(decided, self._adopted_groups())
        self._move("last")
        return decided

    def _move(self, when):
        links = [link for link in self._wanted.links if link.move == when]
        release.move_all(links, self._request.trusted_users)

    def _adopted_groups(self):
        return frozenset(sections_in(self._files.adopted))

    def _roll_back(self):
        """Bring back the processes and links of the old files, which are in place again.

        Returns a sentence that reports it, or what failed.
        """
        sentences = []
        try:
            release.move_all(self._links_moved(), self._request.trusted_users, back=True)
            if self._files.changed():
                drifted, _broken = rpc.drift(self._supervisord)
                state = plan.State(rpc.loaded(self._supervisord), drifted)
                undo = plan.make_plan(self._new, self._old, state)
                # Only what runs differently from the old files is taken back.
                undo = undo._replace(
                    change=tuple(group for group in undo.change if group in drifted)
                )
                pace = self._request.pace()._replace(
                    wait=True, stable=0, watch=watch.Settings(), max_unavailable=None
                )
                rollout.Rollout(
                    self._supervisord, state.groups, self._new, self._old, pace, self._where
                ).carry_out(undo)
                sentences.append("The old definition is back")
        except Exception as error:
            sentences.append(f"The old definition could not be restored completely: {error}")
        return ". ".join([*sentences, *self._what_runs()])

    def _links_moved(self):
        return [
            link
            for link in self._wanted.links
            if link.changes
            and os.path.islink(link.path)
            and os.path.realpath(link.path) == link.after
        ]

    def _what_runs(self):
        """Return sentences about which processes run which code, as they are now."""
        try:
            loaded = rpc.loaded(self._supervisord)
        except Exception:
            return []
        if self._wanted.links:
            mine = [each for group in loaded if group in self._old for each in loaded[group]]
            found = release.by_release(mine)
            runs = [f"{path}: {', '.join(names)}" for path, names in sorted(found.items())]
            links = [
                f"{link.path} leads to {os.path.realpath(link.path)}"
                if os.path.islink(link.path)
                else f"{link.path} is not there"
                for link in self._wanted.links
            ]
            return [*links, *(f"On the release {each}" for each in runs)]
        touched = self._rollout.touched if self._rollout else []
        if touched and not self._files.changed_definitions():
            return [
                "Only the code changed, not the definition, so there is nothing to go back to by itself: "
                f"{', '.join(touched)} have the new code, the others the old. Put the old code back and run "
                "this again; with the option release a batch goes back by itself"
            ]
        return []

    def _failure(self, error, back):
        """Return the GearvisorError for what happened and what became of it."""
        if isinstance(error, GearvisorError):
            details, sentences = dict(error.details), [str(error)]
        else:
            details = {}
            sentences = [f"supervisord or the disk failed in the middle of it: {error}"]
        if back:
            sentences.append(back)
        if "output" in details:
            sentences.append(
                "Its last output is under 'output'"
                if details["output"]
                else "It wrote nothing to its log"
            )
        details["seconds"] = round(time.monotonic() - self._began, 1)
        return GearvisorError(". ".join(sentences), **details)
