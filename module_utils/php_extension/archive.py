# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tarball with an extension's source: looked through before anything of it is written."""

from __future__ import annotations

import io
import lzma
import os
import pathlib
import re
import shutil
import tarfile
import zlib

from ..failure import GearvisorError

# The extension takes half a MiB in 90 files.
MOST_BYTES = 64 * 1024 * 1024
MOST_MEMBERS = 10_000
# Of a header that tarfile reads whole, such as one with a long name.
_MOST_HEADER = 64 * 1024
_SPARSE = tarfile.GNUTYPE_SPARSE
_TYPES = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE),
    *(tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE),
)
_TOO_LARGE = f"it holds more than {MOST_BYTES // 1024 // 1024} MiB or {MOST_MEMBERS} members"


def unpack(content, directory):
    """Unpack into the existing *directory*; return where in it config.m4 is.

    Files and directories come out plain: without owners and special modes. Raises GearvisorError
    when the archive is broken or holds anything that an extension's source does not.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), tarinfo=_Member) as tar:
            members = _checked(tar)
            for member in members:
                _write(tar, member, directory)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise GearvisorError(f"it is not a tarball, or a broken one ({error})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        # gzip and bz2 report broken data so.
        raise GearvisorError(f"it is not a tarball, or a broken one ({error})") from error
    return _source_directory(directory)


def stated_version(source):
    """Return the version that package.xml states, or None without one.

    PECL puts it beside the source's directory, a repository's export inside of it.
    """
    for directory in (source, os.path.dirname(source)):
        try:
            text = pathlib.Path(directory, "package.xml").read_text(encoding="iso-8859-1")
        except FileNotFoundError:
            continue
        # The first is the release's own, before the changelog's.
        stated = re.search(r"<release>\s*([0-9][^<\s]*)\s*</release>", text)
        return stated and stated.group(1)
    return None


class _Member(tarfile.TarInfo):
    """A member whose header is looked at before tarfile reads what belongs to it."""

    def _proc_member(self, tarfile):
        if (self.type not in _TYPES and self.size > _MOST_HEADER) or self.type == _SPARSE:
            raise GearvisorError(f"it has a header of {self.size} bytes, or one of a sparse file")
        return super()._proc_member(tarfile)


def _checked(tar):
    """Return the members. Raises GearvisorError for the first that has no place in a source."""
    members = []
    size = 0
    for member in tar:
        problem = _problem(member)
        if problem:
            raise GearvisorError(f"its member {member.name!r} {problem}")
        members.append(member)
        size += member.size
        if size > MOST_BYTES or len(members) > MOST_MEMBERS:
            raise GearvisorError(_TOO_LARGE)
    _read_to_the_end(tar.fileobj)
    return members


def _read_to_the_end(file):
    """The archive's end comes before the file's, where a compressed one has its checksum."""
    size = 0
    while block := file.read(1024 * 1024):
        size += len(block)
        if size > MOST_BYTES:
            raise GearvisorError(_TOO_LARGE)


def _problem(member):
    if member.name.startswith("/"):
        return "is an absolute path"
    if ".." in member.name.split("/"):
        return "leads out of it"
    if member.issym() or member.islnk():
        return f"is a link, to {member.linkname!r}"
    if not (member.isreg() or member.isdir()):
        return "is neither a file nor a directory"
    return None


def _write(tar, member, directory):
    path = os.path.join(directory, member.name)
    if member.isdir():
        os.makedirs(path, exist_ok=True)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # PECL's tarballs hold some files twice: the later one counts, as with tar.
    with tar.extractfile(member) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    os.chmod(path, 0o755 if member.mode & 0o100 else 0o644)


def _source_directory(directory):
    found = [path for path, _directories, files in os.walk(directory) if "config.m4" in files]
    if len(found) != 1:
        raise GearvisorError(
            f"it holds {len(found) or 'no'} files config.m4, and an extension's source has one"
        )
    return found[0]
