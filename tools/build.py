# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a release from the last commit into dist/: see ./run dist.

    build.py [--sign KEY] [--output DIRECTORY]

- gearvisor-gearvisor-VERSION.tar.gz: the Ansible collection, with links replaced by what they point to
  and with full names in roles and playbooks (short ones are for the checkout)
- gearvisor-VERSION-py3-none-any.whl and gearvisor-VERSION.tar.gz: the Python package
- gearvisor-VERSION-source.tar.gz: the whole tree, with composer.json
- SHA256SUMS of these, and with --sign SHA256SUMS.asc
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLLECTION = "gearvisor.gearvisor"
MODULE_LINKS = ("plugins/modules", "plugins/module_utils")


def version(tree: Path) -> str:
    """Return the version of the tree; exits when galaxy.yml names another."""
    source = (tree / "python/src/gearvisor/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    named = re.search(r"^version: (\S+)", (tree / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
    if not found or not named or found[1] != named[1]:
        sys.exit("galaxy.yml and python/src/gearvisor/__init__.py must name the same version.")
    return found[1]


def export(commit: str, target: Path) -> None:
    """Write the files of a commit to *target*."""
    archive = subprocess.Popen(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", target], stdin=archive.stdout, check=True)
    if archive.wait() != 0:
        sys.exit(f"git archive {commit} failed.")


def make_collection(tree: Path, target: Path) -> None:
    """Copy what belongs into the collection, links followed and short names made full ones."""
    left_out = shutil.ignore_patterns("__pycache__")
    for entry in sorted(tree.iterdir()):
        if entry.name in ("library", "module_utils", "python"):
            continue  # in plugins/, which links to them
        if entry.is_dir():
            shutil.copytree(entry, target / entry.name, ignore=left_out)
        else:
            shutil.copy2(entry, target / entry.name)
    # galaxy-importer refuses the name, and the package's build adds the file where it is missing.
    (target / "plugins/module_utils/gearvisor/__main__.py").unlink()
    modules = {path.stem for path in (target / "plugins/modules").glob("*.py")}
    roles = {path.name for path in (target / "roles").iterdir()}
    for pattern in ("roles/*/tasks/**/*.yml", "roles/*/handlers/*.yml", "playbooks/**/*.yml"):
        for path in target.glob(pattern):
            path.write_text(full_names(path.read_text("utf-8"), modules, roles), "utf-8")
    for path in target.glob("roles/*/meta/argument_specs.yml"):
        path.write_text(typed_defaults(path.read_text("utf-8")), "utf-8")
    for path in [*target.glob("plugins/modules/*.py"), *target.glob("plugins/**/*.py")]:
        path.chmod(0o644)


def full_names(text: str, modules: set[str], roles: set[str]) -> str:
    """Return the text of tasks or plays with the collection's prefix before our modules and roles.

    >>> full_names("- gearman_job:\\n", {"gearman_job"}, set())
    '- gearvisor.gearvisor.gearman_job:\\n'
    """
    lines = []
    names_role = False  # the line before was import_role: or include_role:
    for line in text.splitlines(keepends=True):
        task = re.match(r"(\s*(?:- )?)(\w+):\s*$", line)
        role = re.match(r"(\s*(?:- )?(?:role|name): )(\w+)\s*$", line)
        plain = re.match(r"(\s*- )(\w+)\s*$", line)
        if task and task[2] in modules:
            line = f"{task[1]}{COLLECTION}.{task[2]}:\n"
        elif role and role[2] in roles and (names_role or "role: " in role[1]):
            line = f"{role[1]}{COLLECTION}.{role[2]}\n"
        elif plain and plain[2] in roles and names_role:
            line = f"{plain[1]}{COLLECTION}.{plain[2]}\n"
        names_role = bool(re.search(r"(import_role|include_role|roles):\s*$", line)) or (
            names_role and bool(plain)
        )
        lines.append(line)
    return "".join(lines)


def typed_defaults(text: str) -> str:
    """Return argument specs without the defaults that are templates of what is not text.

    The tools that publish documentation take a default for a value of the option's type. Here the
    roles' defaults/main.yml has it, as in the checkout, and the description states it.
    """
    kept: list[str] = []
    for block in re.split(r"(?m)^(?=      +\w+:$)", text):
        textual = re.search(r"(?m)^ +type: (str|path|raw)$", block)
        kept.append(block if textual else re.sub(r'(?m)^ +default: "\{\{.*\n', "", block))
    return "".join(kept)


def run(*command: str | Path, directory: Path = ROOT) -> None:
    subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)


def build_collection(tree: Path, output: Path) -> Path:
    with tempfile.TemporaryDirectory() as scratch:
        collection = Path(scratch, "collection")
        collection.mkdir()
        make_collection(tree, collection)
        galaxy = Path(sys.executable).parent / "ansible-galaxy"
        run(galaxy, "collection", "build", "--force", "--output-path", output, collection)
    return output / f"gearvisor-gearvisor-{version(tree)}.tar.gz"


def build_python(tree: Path, output: Path) -> list[Path]:
    """Build wheel and sdist with the package's own backend."""
    call = "import sys; from gearvisor import _build; print(_build.{}(sys.argv[1]))"
    names = []
    for hook in ("build_wheel", "build_sdist"):
        done = subprocess.run(
            [sys.executable, "-c", call.format(hook), output],
            cwd=tree / "python",
            env={**os.environ, "PYTHONPATH": "src"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        names.append(done.stdout.strip())
    return [output / name for name in names]


def composer(text: str, number: str) -> str:
    """Return php/composer.json as it has to be at the top of the archive, where Composer wants it."""
    package = json.loads(text)
    autoload = package["autoload"]
    autoload["psr-4"] = {name: f"php/{path}" for name, path in autoload["psr-4"].items()}
    autoload["files"] = [f"php/{path}" for path in autoload.get("files", [])]
    package["bin"] = [f"php/{path}" for path in package["bin"]]
    return json.dumps({**package, "version": number}, indent=4) + "\n"


def build_source(tree: Path, commit: str, number: str, output: Path) -> Path:
    path = output / f"gearvisor-{number}-source.tar.gz"
    prefix = f"gearvisor-{number}/"
    package = composer((tree / "php/composer.json").read_text("utf-8"), number)
    added = f"--add-virtual-file={prefix}composer.json:{package}"
    run(
        "git", "archive", f"--prefix={prefix}", "--format=tar.gz", added, f"--output={path}", commit
    )
    return path


def write_checksums(files: list[Path], output: Path) -> Path:
    path = output / "SHA256SUMS"
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    path.write_text("".join(sums), encoding="ascii")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="./run dist")
    parser.add_argument("--sign", metavar="KEY", help="sign SHA256SUMS with that key of gpg")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    changed = subprocess.run(
        ["git", "-C", ROOT, "status", "--porcelain"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    if changed:
        sys.exit(
            f"A release is built from a commit, and these differ from the last one:\n{changed}"
        )
    output = options.output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch)
        export("HEAD", tree)
        number = version(tree)
        files = [
            build_collection(tree, output),
            *build_python(tree, output),
            build_source(tree, "HEAD", number, output),
        ]
    sums = write_checksums(files, output)
    if options.sign:
        run("gpg", "--local-user", options.sign, "--armor", "--detach-sign", "--yes", sums)
    for path in sorted(output.iterdir()):
        print(path)


if __name__ == "__main__":
    main()
