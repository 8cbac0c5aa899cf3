# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds this package: a PEP 517 backend on the standard library alone.

It needs neither network nor setuptools, and the same sources give the same bytes anywhere: fixed
times and modes, sorted names, and no compression (whose output differs between zlib versions).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

NAME = "gearvisor"
METADATA = """\
Metadata-Version: 2.4
Name: gearvisor
Version: {version}
Summary: Gearman client, worker and admin commands in pure Python
License-Expression: GPL-3.0-or-later
Author: Gearvisor contributors
Keywords: gearman,worker,queue,jobs,supervisor
Project-URL: Homepage, https://github.com/gearvisor/gearvisor
Project-URL: Documentation, https://github.com/gearvisor/gearvisor/blob/main/python/README.md
Project-URL: Issues, https://github.com/gearvisor/gearvisor/issues
Project-URL: Changes, https://github.com/gearvisor/gearvisor/blob/main/CHANGELOG.rst
Classifier: Development Status :: 4 - Beta
Classifier: Environment :: Console
Classifier: Intended Audience :: Developers
Classifier: Intended Audience :: System Administrators
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Programming Language :: Python :: 3 :: Only
Classifier: Topic :: System :: Distributed Computing
Classifier: Typing :: Typed
Requires-Python: >=3.9
"""
# What a published archive carries besides, from the project's folder.
LICENSE, README = "LICENSE", "README.md"
WHEEL = "Wheel-Version: 1.0\nGenerator: gearvisor\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
# __main__.py, where it is not among the sources: a collection may have no file of that name in
# module_utils, from where an Ansible module builds the wheel.
MAIN = b'''\
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m gearvisor` is the `gearvisor` command."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
'''
ENTRY_POINTS = "[console_scripts]\ngearvisor = gearvisor.cli:main\n"


def build(
    sources: dict[str, bytes], documents: dict[str, bytes] | None = None
) -> tuple[str, bytes]:
    """Return the name and the content of the wheel of the package's files.

    sources: file names relative to the package ("client.py") and their content. An `__init__.py`
    with the version must be among them; the marker py.typed is added.
    documents: content of LICENSE and README.md, for a wheel to be published.
    """
    version = _version(sources)
    files = {f"{NAME}/{name}": content for name, content in sources.items()}
    files.setdefault(f"{NAME}/__main__.py", MAIN)
    files[f"{NAME}/py.typed"] = b""
    return _wheel(version, files, documents or {})


def build_wheel(
    wheel_directory: str, config_settings: object = None, metadata_directory: object = None
) -> str:
    """PEP 517: build the wheel of the project in the current directory."""
    return _write(wheel_directory, *build(_sources(), _documents()))


def build_editable(
    wheel_directory: str, config_settings: object = None, metadata_directory: object = None
) -> str:
    """PEP 660: build a wheel that points to the source folder."""
    pointer = f"{Path('src').resolve()}\n".encode()
    return _write(wheel_directory, *_wheel(_version(_sources()), {f"{NAME}.pth": pointer}, {}))


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """PEP 517: build the source archive."""
    sources = _sources()
    version = _version(sources)
    files = {f"src/{NAME}/{name}": content for name, content in sources.items()}
    files[f"src/{NAME}/py.typed"] = b""
    files["PKG-INFO"] = _metadata(version, _documents())
    files["pyproject.toml"] = Path("pyproject.toml").read_bytes()
    files.update(_documents())
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{NAME}-{version}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return _write(
        sdist_directory, f"{NAME}-{version}.tar.gz", gzip.compress(archive.getvalue(), mtime=0)
    )


def _sources() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("src", NAME).glob("*.py")}


def _documents() -> dict[str, bytes]:
    return {name: Path(name).read_bytes() for name in (LICENSE, README)}


def _metadata(version: str, documents: dict[str, bytes]) -> bytes:
    text = METADATA.format(version=version).encode()
    if LICENSE in documents:
        text += f"License-File: {LICENSE}\n".encode()
    if README in documents:
        text += b"Description-Content-Type: text/markdown\n\n" + documents[README]
    return text


def _version(sources: dict[str, bytes]) -> str:
    found = re.search(rb'^__version__ = "(.+)"$', sources["__init__.py"], re.MULTILINE)
    if found is None:
        raise ValueError('__init__.py has no line __version__ = "..."')
    return found[1].decode()


def _wheel(version: str, files: dict[str, bytes], documents: dict[str, bytes]) -> tuple[str, bytes]:
    info = f"{NAME}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": _metadata(version, documents),
        f"{info}/WHEEL": WHEEL.encode(),
        f"{info}/entry_points.txt": ENTRY_POINTS.encode(),
    }
    if LICENSE in documents:
        files[f"{info}/licenses/{LICENSE}"] = documents[LICENSE]
    record = ""
    for name, content in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, on every build host
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return f"{NAME}-{version}-py3-none-any.whl", wheel.getvalue()


def _write(folder: str, name: str, content: bytes) -> str:
    Path(folder, name).write_bytes(content)
    return name
