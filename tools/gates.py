# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release must pass, tried on what ./run dist builds of the last commit: see ./run gates.

    gates.py [GATE...]

The gates are the functions below, by name; without any, all of them run. Each gets a Release, runs
commands and raises Failed. The last lines are a table; the exit code is 1 when a gate failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import build

ROOT = Path(__file__).resolve().parents[1]
# The lab host of the gates; the scenario example may run at the same time, with another.
HOST = "gearvisor-gates"
NAMESPACE = "ansible_collections/gearvisor/gearvisor"
# ansible-test fetches this from its own server. Python's ensurepip does as well.
GET_PIP = "import ensurepip\nensurepip.bootstrap(default_pip=True)\n"


class Failed(Exception):
    """A gate did not pass; its text is the reason."""


@dataclass
class Release:
    output: Path  # where the archives are
    place: Path  # the collection is installed below it
    number: str

    @property
    def collection(self) -> Path:
        return self.place / NAMESPACE

    def archive(self, ending: str) -> Path:
        return self.output / f"gearvisor-{self.number}{ending}"

    def run(self, *command: str | Path, directory: Path | None = None) -> str:
        """Run a command of this environment; raises Failed with its output."""
        tools = Path(sys.executable).parent
        done = subprocess.run(
            [tools / command[0] if (tools / command[0]).exists() else command[0], *command[1:]],
            cwd=directory or self.collection,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(self.place),
                "PATH": f"{tools}:{os.environ['PATH']}",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise Failed(f"{' '.join(map(str, command))}:\n{done.stdout}")
        return done.stdout


def metadata(release: Release) -> None:
    """Wheel and sdist are what PyPI takes."""
    release.run(
        "twine",
        "check",
        "--strict",
        release.archive("-py3-none-any.whl"),
        release.archive(".tar.gz"),
    )


def wheel(release: Release) -> None:
    """The wheel works in a clean environment, with no network."""
    with tempfile.TemporaryDirectory() as scratch:
        release.run(sys.executable, "-m", "venv", scratch)
        pip = f"{scratch}/bin/pip"
        release.run(pip, "install", "--quiet", "--no-index", release.archive("-py3-none-any.whl"))
        shown = release.run(f"{scratch}/bin/gearvisor", "--version")
        if shown.strip() != f"gearvisor {release.number}":
            raise Failed(f"gearvisor --version shows {shown}")


def documentation(release: Release) -> None:
    """ansible-doc shows every module and role, without what a comma made of a description."""
    modules = [path.stem for path in (release.collection / "plugins/modules").glob("*.py")]
    for module in sorted(modules):
        text = release.run("ansible-doc", f"gearvisor.gearvisor.{module}")
        wrong = [line for line in text.splitlines() if ".: null" in line]
        if wrong:
            raise Failed(f"{module}: {wrong}")
    for role in sorted(path.name for path in (release.collection / "roles").iterdir()):
        release.run("ansible-doc", "--type", "role", f"gearvisor.gearvisor.{role}")


def antsibull(release: Release) -> None:
    """The documentation can be published on docs.ansible.com."""
    release.run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", ".")


def lint(release: Release) -> None:
    """ansible-lint, profile production, on the installed collection."""
    release.run("ansible-lint", "--profile", "production", "--offline", ".")


def importer(release: Release) -> None:
    """Galaxy imports it, and logs no errors or warnings about Gearvisor."""
    archive = release.output / f"gearvisor-gearvisor-{release.number}.tar.gz"
    log = release.run(
        sys.executable, "-m", "galaxy_importer.main", archive, directory=release.output
    )
    wrong = [line for line in log.splitlines() if line.startswith(("ERROR", "WARNING"))]
    if wrong:
        raise Failed("\n".join(wrong))


def sanity(release: Release) -> None:
    """ansible-test sanity, without an ignore file."""
    cache = Path("~/.ansible/test/cache/get_pip_24_2.py").expanduser()
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(GET_PIP, encoding="ascii")
    python = "{}.{}".format(*sys.version_info[:2])
    release.run("git", "init", "--quiet", ".")
    # What it makes itself.
    (release.collection / ".gitignore").write_text("/tests/output/\n", encoding="ascii")
    release.run("git", "add", "--all")
    release.run(
        "ansible-test", "sanity", "--python", python, "--venv", "--requirements", "--color", "no"
    )


def control_nodes(release: Release) -> None:
    """Each supported ansible-core converges and verifies the example project, on a fresh lab host."""
    images = ROOT / "molecule/images"
    release.run(images / "build", "trixie", directory=images)
    image = "localhost/gearvisor-lab-trixie"
    settings = release.run(images / "containers-conf", image, directory=images)
    with tempfile.TemporaryDirectory() as scratch:
        project = example_project(Path(scratch, "project"))
        (project / "containers.conf").write_text(settings, "utf-8")
        environment = (
            f"CONTAINERS_CONF={project}/containers.conf",
            f"EXAMPLE_IMAGE={image}",
            f"ANSIBLE_CONFIG={project}/ansible.cfg",
        )

        def play(name: str) -> str:
            inventory = "--inventory=molecule/default/inventory"
            command = ("env", *environment, f"{scratch}/venv/bin/ansible-playbook", inventory)
            return release.run(*command, f"molecule/default/{name}.yml", directory=project)

        for core, version in CONTROL_NODES:
            python = find_python(version)
            if python is None:
                print(f"ansible-core {core}: no Python {version} here, left out", flush=True)
                continue
            release.run(python, "-m", "venv", "--clear", f"{scratch}/venv")
            release.run(f"{scratch}/venv/bin/pip", "install", "--quiet", f"ansible-core=={core}.*")
            play("destroy")
            try:
                play("create")
                recap = play("converge").rpartition(f"{HOST} ")[2].strip()
                play("verify")
            finally:
                play("destroy")
            print(f"ansible-core {core} on Python {version} {recap}", flush=True)


def example_project(project: Path) -> Path:
    """Copy the example project, with a host of its own."""
    shutil.copytree(ROOT / "examples/project", project)
    for path in project.rglob("*"):
        if path.is_file():
            path.write_text(path.read_text("utf-8").replace("gearvisor-example", HOST), "utf-8")
    return project


def find_python(version: str) -> str | None:
    """Return an interpreter of that version, from PATH or from pyenv, whose shims for others do not run."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    for candidate in (f"python{version}", *pyenv.glob(f"versions/{version}.*/bin/python3")):
        asked = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([candidate, "-c", asked], capture_output=True, text=True)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return str(candidate)
    return None


# Each ansible-core that is supported, with a Python that it runs on.
CONTROL_NODES = (
    ("2.16", "3.10"),
    ("2.17", "3.11"),
    ("2.18", "3.11"),
    ("2.19", "3.11"),
    ("2.20", "3.13"),
    ("2.21", "3.13"),
)
GATES = (metadata, wheel, documentation, antsibull, importer, lint, sanity, control_nodes)


def run(gates: list, release: Release) -> list[tuple[str, float, str]]:
    """Return (gate, seconds, problem or "") of each."""
    results = []
    for gate in gates:
        print(f"==> {gate.__name__}: {gate.__doc__}", flush=True)
        started = time.monotonic()
        problem = ""
        try:
            gate(release)
        except Failed as failed:
            problem = str(failed)
            print(problem, flush=True)
        results.append((gate.__name__, time.monotonic() - started, problem))
    return results


def main() -> int:
    named = {gate.__name__: gate for gate in GATES}
    unknown = [name for name in sys.argv[1:] if name not in named]
    if unknown:
        sys.exit(f"{unknown[0]} is not a gate. The gates: {', '.join(named)}.")
    gates = [named[name] for name in sys.argv[1:]] or list(GATES)
    with tempfile.TemporaryDirectory() as scratch:
        tree, output, place = (Path(scratch, name) for name in ("tree", "output", "place"))
        for folder in (tree, output, place):
            folder.mkdir()
        build.export("HEAD", tree)
        archive = build.build_collection(tree, output)
        build.build_python(tree, output)
        release = Release(output, place, build.version(tree))
        (place / "ansible_collections").mkdir()
        release.run(
            "ansible-galaxy", "collection", "install", "-p", place, archive, directory=place
        )
        results = run(gates, release)
    print("\nGates:")
    for name, seconds, problem in results:
        print(f"{seconds:6.0f} s  {name:14} {'FAILED' if problem else 'passed'}")
    return int(any(problem for _, _, problem in results))


if __name__ == "__main__":
    sys.exit(main())
