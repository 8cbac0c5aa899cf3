"""Runs single modules on a lab host, from the checkout, with faults (tests/faults/)."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import ansible
import pytest

ROOT = Path(__file__).resolve().parents[3]
HERE = "/opt/faults"


def archive():
    """Return a tar archive of what a module needs on the host: Ansible's part, Gearvisor's, the harness."""
    buffer = io.BytesIO()
    theirs = Path(ansible.__file__).parent
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        # As Ansible sends it: without what only the control node needs.
        tar.addfile(tarfile.TarInfo("ansible/__init__.py"))
        for name in ("release.py", "module_utils"):
            tar.add(theirs / name, f"ansible/{name}", filter=_sources)
        for kind, source in (("modules", "library"), ("module_utils", "module_utils")):
            target = f"ansible_collections/gearvisor/gearvisor/plugins/{kind}"
            tar.add(ROOT / source, target, filter=_sources)
        for name in ("inject.py", "state.py"):
            tar.add(ROOT / "tests/faults" / name, name)
    return buffer.getvalue()


def _sources(member):
    return None if "__pycache__" in member.name else member


class Target:
    """One lab host, and modules on it."""

    def __init__(self, lab, name):
        self.host = lab[name]
        self._container = lab.container(name)
        self._podman("mkdir", "-p", HERE)
        self._podman("tar", "-x", "-C", HERE, input=archive())

    def _podman(self, *command, **options):
        return subprocess.run(
            ["podman", "exec", "--interactive", self._container, *command],
            check=options.pop("check", True),
            capture_output=True,
            **options,
        )

    def shell(self, command):
        """Run a shell command; return its output as text, whatever its return code."""
        done = self._podman("sh", "-c", command, check=False)
        return done.stdout.decode(errors="replace")

    def run(self, module, arguments, fault="none", number=-1):
        """Run the module; return (its result, None if it was killed, and its steps)."""
        self._podman("tee", f"{HERE}/arguments.json", input=json.dumps(arguments).encode())
        done = self._podman(
            *("env", f"PYTHONPATH={HERE}", "PYTHONDONTWRITEBYTECODE=1", "/usr/bin/python3"),
            *(f"{HERE}/inject.py", module, fault, str(number), f"{HERE}/arguments.json"),
            check=False,
        )
        try:
            result = json.loads(done.stdout)
        except ValueError:
            result = None
        lines = done.stderr.decode(errors="replace").splitlines()
        steps = json.loads(lines[-1])["steps"] if lines and lines[-1].startswith("{") else []
        assert result is not None or fault == "KILL", done.stderr.decode(errors="replace")
        return result, steps

    def converged(self, module, arguments):
        """Run the module undisturbed; return its result, which must be a success."""
        result, _steps = self.run(module, arguments)
        assert not result.get("failed"), result
        return result

    def files(self, *directories):
        """Return {path: what is there}, see tests/faults/state.py."""
        command = ["/usr/bin/python3", f"{HERE}/state.py", *directories]
        return json.loads(self._podman(*command).stdout)


@pytest.fixture(scope="session")
def targets(lab):
    """Return a function from a host's name to its Target."""
    made = {}

    def target(name):
        if name not in made:
            made[name] = Target(lab, name)
        return made[name]

    return target
