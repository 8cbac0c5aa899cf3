# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An extension that was built on this host: where it is, and what it was built from and for.

docs/decisions/0007 explains the place. A stamp beside the extension records the latter, so that it is built
again only when something of it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import re
from typing import NamedTuple

from ..host.files import (
    read_bytes,
    read_text,
    restore_bytes,
    restore_text,
    write_bytes,
    write_text,
)
from . import sapis

# The name that phpenmod knows it by; Debian's package has the plain one.
MODULE = f"{sapis.EXTENSION}-source"
BUILD_PACKAGES = ("gcc", "libc6-dev", "libgearman-dev", "make")
BORROWED_PACKAGES = ("gearman-job-server",)
TEST_PACKAGES = (*BORROWED_PACKAGES, "iproute2")

# Debian's libgearman, whatever else is in /usr/local. With "now", a function that libgearman lacks
# is found out by the proof that the extension loads, not by the first request that calls it.
CONFIGURE = [
    "./configure",
    "--with-gearman=/usr",
    "CFLAGS=-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wformat -Werror=format-security",
    "LDFLAGS=-Wl,-z,relro -Wl,-z,now",
]
_LIBGEARMAN = re.compile(r"libgearman\d+(t64)?")


class Built(NamedTuple):
    """An extension that was built. *made_for*: its build_id(); *tests*: their counts, or None."""

    made_for: dict
    tarball: bytes
    content: bytes
    tests: dict


class Paths(NamedTuple):
    """Where an extension that was built here is, for one PHP version."""

    extension: str
    stamp: str
    ini: str


def paths(host, version):
    directory = os.path.join(host.built, version)
    return Paths(
        os.path.join(directory, f"{sapis.EXTENSION}.so"),
        os.path.join(directory, f"{sapis.EXTENSION}.json"),
        os.path.join(host.etc, version, "mods-available", f"{MODULE}.ini"),
    )


def ini_text(extension):
    return (
        f"; Written by Gearvisor, which built this extension from source.\nextension={extension}\n"
    )


def libgearman(installed):
    """Return the version of libgearman among *installed* packages ({name: version}), or None."""
    return next((installed[name] for name in installed if _LIBGEARMAN.fullmatch(name)), None)


def keep_libgearman(host, installed):
    """Have apt keep libgearman when what it came with for the build goes."""
    names = [name for name in installed if _LIBGEARMAN.fullmatch(name)]
    host.run(["apt-mark", "manual", *names])


def build_id(host, version, release, libgearman):
    """Return what an extension is built for, and how: when that differs it has to be rebuilt."""
    return {
        "release": release.version,
        # Debian has one directory for each API of PHP's.
        "php": sapis.extension_directory(host, version),
        "libgearman": libgearman,
        "flags": " ".join(CONFIGURE[1:]),
    }


def versions(host):
    """Return the PHP versions that an extension was built for here."""
    return sorted(path.name for path in pathlib.Path(host.built).glob("*"))


def is_installed(host, version):
    """Return whether an extension that was built here, or part of one, is there."""
    return any(os.path.lexists(path) for path in paths(host, version))


def stamp(host, version):
    """Return what the extension that is there was built from and for; {} when that is not known."""
    try:
        return dict(json.loads(read_text(paths(host, version).stamp) or "{}"))
    except ValueError:
        return {}


def is_current(host, version, wanted, locations, run_tests):
    """Return whether the extension that is there is the one that would be built now."""
    there = stamp(host, version)
    accepted = {location.sha256 for location in locations}
    content = read_bytes(paths(host, version).extension)
    return (
        {name: there.get(name) for name in wanted} == wanted
        and (None in accepted or there.get("archive") in accepted)
        and bool(there.get("tests") or not run_tests)
        and content is not None
        and there.get("extension") == sha256(content)
    )


def put_in_place(host, version, built, undo):
    """Make the extension the one for that PHP version, in one step; *undo* is an ExitStack.

    The stamp comes first: should the disk be full after it, the extension is still the old one.
    """
    place = paths(host, version)
    record = {
        **built.made_for,
        "archive": sha256(built.tarball),
        "extension": sha256(built.content),
        "tests": built.tests,
    }
    for directory in (host.built, os.path.dirname(place.extension)):
        if not os.path.isdir(directory):
            os.mkdir(directory)
            os.chmod(directory, 0o755)
    before = read_text(place.stamp)
    write_text(place.stamp, json.dumps(record, indent=2, sort_keys=True) + "\n", 0o644)
    undo.callback(restore_text, place.stamp, before, 0o644)
    before = read_bytes(place.extension)
    write_bytes(place.extension, built.content, 0o644)
    undo.callback(restore_bytes, place.extension, before, 0o644)


def forget(host, version):
    """Disable the extension that was built here, and remove it."""
    place = paths(host, version)
    if os.path.lexists(place.ini):
        for sapi in sapis.enabled_sapis(host, version, MODULE):
            sapis.switch(host, "phpdismod", version, sapi, MODULE)
    for path in place:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    # What phpenmod noted of it.
    notes = pathlib.Path(host.notes, version)
    for note in notes.glob(f"*/*abled_by_*/{MODULE}"):
        note.unlink()
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(place.extension))
        os.rmdir(host.built)


def sha256(content):
    return hashlib.sha256(content).hexdigest()
