# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files, links and directories that a module wants on its host, as one set.

What is there now is read when a path is added; the difference is shown, written and put back as
a whole. While it is being applied, the journal has what was there before, so that a run that is
killed is taken back by the next one.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import grp
import hashlib
import os
import pwd
import stat

from ..failure import GearvisorError
from . import directories, files, journal

ABSENT, FILE, LINK, DIRECTORY, OTHER = "absent", "file", "link", "directory", "other"
KIND = "path"


@dataclasses.dataclass(frozen=True)
class State:
    """What a path is or should be. *data*: a file's bytes; *target*: where a link leads."""

    kind: str
    data: bytes = None
    target: str = None
    mode: int = None
    uid: int = None
    gid: int = None


def state_of(path):
    """Return the State of the path as it is now; a link is not followed."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return State(ABSENT)
    about = {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
    if stat.S_ISLNK(found.st_mode):
        return State(LINK, target=os.readlink(path))
    if stat.S_ISDIR(found.st_mode):
        return State(DIRECTORY, **about)
    if not stat.S_ISREG(found.st_mode):
        return State(OTHER, **about)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return State(FILE, data=file.read(), **about)


class ChangeSet:
    """What a module wants of paths of its host, and how they were when they were added."""

    def __init__(self, host):
        self._host = host
        self._before = {}
        self._wanted = {}
        self._masks = {}
        self._made = []

    def want(self, path, text, mode=0o644, owner="root", group="root", mask=None):
        """Want a file with this content (text or bytes), or, with None, nothing at *path*.

        *owner* and *group* are names or numbers. *mask* turns the text into one that may be
        shown, for contents that hold secrets.
        """
        if text is None:
            self._add(path, State(ABSENT), mask)
            return
        data = text if isinstance(text, bytes) else text.encode("utf-8")
        self._add(path, State(FILE, data=data, mode=mode, **_ids(owner, group)), mask)

    def want_link(self, path, target):
        """Want a symbolic link to *target*, or, with None, nothing at *path*."""
        self._add(path, State(ABSENT) if target is None else State(LINK, target=target))

    def want_directory(self, path, mode=0o755, owner="root", group="root"):
        """Want a directory with this mode and owner; what is in it does not count."""
        self._add(path, State(DIRECTORY, mode=mode, **_ids(owner, group)))

    def _add(self, path, wanted, mask=None):
        self._before.setdefault(path, state_of(self._host.path(path)))
        self._wanted[path] = wanted
        self._masks[path] = mask or (lambda text: text)

    def before(self, path):
        """Return the text that was there when the path was added, or None."""
        data = self._before[path].data
        return None if data is None else data.decode("utf-8", errors="surrogateescape")

    def after(self, path):
        """Return the text that is wanted at the path, or None."""
        data = self._wanted[path].data
        return None if data is None else data.decode("utf-8", errors="surrogateescape")

    def paths(self):
        """Return the paths that have to change, sorted."""
        return sorted(path for path in self._wanted if self._differs(path))

    def __contains__(self, path):
        """Whether this path has to change."""
        return path in self._wanted and self._differs(path)

    @property
    def changed(self):
        """Whether anything has to change."""
        return bool(self.paths())

    def _differs(self, path):
        before, wanted = self._before[path], self._wanted[path]
        if wanted.kind != before.kind or wanted.data != before.data:
            return True
        return wanted.target != before.target or _about(wanted) != _about(before, wanted)

    def diff(self):
        """Return Ansible's diff entries, one a changed path."""
        return [self._diff_of(path) for path in self.paths()]

    def _diff_of(self, path):
        before, wanted = self._before[path], self._wanted[path]
        shown = [self._shown(path, state) for state in (before, wanted)]
        if shown[0] == shown[1]:
            shown = [f"{about}\n" for about in (_words(before), _words(wanted))]
        return {
            "before_header": path,
            "after_header": path,
            "before": shown[0],
            "after": shown[1],
        }

    def _shown(self, path, state):
        if state.kind == FILE:
            return self._masks[path](state.data.decode("utf-8", errors="replace"))
        if state.kind == LINK:
            return f"link to {state.target}\n"
        return "" if state.kind == ABSENT else f"{state.kind}\n"

    @contextlib.contextmanager
    def applied(self):
        """Write all of it for the block; when the block raises, put back what was there.

        Raises GearvisorError or OSError, with everything put back, if something cannot be
        written. A run that is killed in the block is put back by the next run of any module.
        """
        paths = self.paths()
        entry = journal.note(
            self._host,
            KIND,
            paths=[_noted(path, self._before[path], self._wanted[path]) for path in paths],
            directories=self._missing_directories(paths),
        )
        try:
            for path in paths:
                self._make_parents(path)
                put(self._host.path(path), self._wanted[path])
            yield
        except BaseException as error:
            failed = self.put_back()
            if not failed:
                journal.forget(self._host, entry)
            elif isinstance(error, Exception):
                details = getattr(error, "details", {})
                text = f"{error}. Not everything could be put back: {'; '.join(failed)}"
                raise GearvisorError(text, **details) from error
            raise
        journal.forget(self._host, entry)

    def put_back(self):
        """Put back what was there when the paths were added; return what could not be, as texts.

        What could not be stays in the journal, if it was noted, and the next run tries again.
        """
        failed = []
        for path in reversed(self.paths()):
            try:
                put(self._host.path(path), self._before[path])
            except (OSError, GearvisorError) as error:
                failed.append(str(error))
        directories.remove_empty(*reversed(self._made))
        return failed

    def _missing_directories(self, paths):
        found = []
        for path in paths:
            if self._wanted[path].kind != ABSENT:
                found += directories.missing(os.path.dirname(self._host.path(path)))
        return list(dict.fromkeys(found))

    def _make_parents(self, path):
        if self._wanted[path].kind != ABSENT:
            parent = os.path.dirname(self._host.path(path))
            self._made += directories.make(parent, 0o755, *_root(), trusted=_trusted())


def put(path, state):
    """Give the path the state *state*. Raises GearvisorError or OSError."""
    if state.kind == FILE:
        uid = state.uid if state.uid is not None else os.geteuid()
        gid = state.gid if state.gid is not None else os.getegid()
        files.write_bytes(path, state.data, state.mode, uid, gid, _trusted())
        return
    directory, name = os.path.split(path)
    try:
        with directories.opened(directory, _trusted()) as parent:
            _put_other(parent, name, path, state)
    except FileNotFoundError:
        if state.kind != ABSENT:
            raise


def _put_other(parent, name, path, state):
    if state.kind == ABSENT:
        _remove(parent, name)
    elif state.kind == LINK:
        temporary = files.temporary_name(name)
        _remove(parent, temporary)
        os.symlink(state.target, temporary, dir_fd=parent)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)
    elif state.kind == DIRECTORY:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=parent)
        try:
            if state.uid is not None:
                os.fchown(descriptor, state.uid, state.gid)
            os.fchmod(descriptor, state.mode)
        finally:
            os.close(descriptor)
    else:
        raise OSError(errno.EINVAL, "is neither a file, a link nor a directory", path)


def _remove(parent, name):
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            # What others have put into a directory of Gearvisor stays.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    os.fsync(parent)


def undo(host, facts):
    """Take back the paths of an interrupted run (the journal's undo of this kind); return sentences.

    A path that was changed by others since then is left as it is.
    """
    reports = []
    for noted in reversed(facts["paths"]):
        path = host.path(noted["path"])
        files.remove_temporaries(path)
        now, before = _digest(state_of(path)), _decoded(noted["before"])
        if now == _digest(before):
            continue
        if now != noted["after"]:
            reports.append(f"{noted['path']} was changed since by others, and is left as it is")
            continue
        put(path, before)
        reports.append(f"{noted['path']} is as it was before")
    directories.remove_empty(*reversed(facts["directories"]))
    return reports


def _noted(path, before, wanted):
    coded = dataclasses.asdict(before)
    if before.data is not None:
        coded["data"] = base64.b64encode(before.data).decode("ascii")
    return {"path": path, "before": coded, "after": _digest(wanted)}


def _decoded(coded):
    data = coded["data"]
    return State(**{**coded, "data": None if data is None else base64.b64decode(data)})


def _digest(state):
    """Return what distinguishes two states, without modes and owners."""
    content = hashlib.sha256(state.data).hexdigest() if state.data is not None else state.target
    return f"{state.kind} {content}"


def _ids(owner, group):
    """Return {"uid", "gid"}; None for a name that this host does not have yet."""
    return {
        "uid": owner if isinstance(owner, int) else _id(pwd.getpwnam, owner, "pw_uid"),
        "gid": group if isinstance(group, int) else _id(grp.getgrnam, group, "gr_gid"),
    }


def _id(look_up, name, field):
    # A user who runs the tests without being root owns what root would own.
    if name == "root":
        return os.geteuid() if field == "pw_uid" else os.getegid()
    try:
        return getattr(look_up(name), field)
    except KeyError:
        return None


def _root():
    return os.geteuid(), os.getegid()


def _trusted():
    return frozenset({0, os.geteuid()})


def _about(state, wanted=None):
    """Return (mode, uid, gid), of links and of what is absent nothing."""
    if (wanted or state).kind in (LINK, ABSENT):
        return ()
    return state.mode, state.uid, state.gid


def _words(state):
    if state.kind in (LINK, ABSENT):
        return state.kind
    return f"mode {state.mode:04o}, owner {state.uid}, group {state.gid}"
