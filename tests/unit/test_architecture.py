"""The packages of module_utils/ import only what docs/architecture.md allows, without cycles."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE_UTILS = ROOT / "module_utils"
PACKAGES = sorted(
    path.stem
    for path in MODULE_UTILS.iterdir()
    if path.suffix == ".py" or (path.is_dir() and path.name not in ("__pycache__", "gearvisor"))
)


def allowed():
    """Return {package: packages it may import}, from the table in docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|$", text, re.M)
    return {package: set(re.findall(r"`(\w+)`", imports)) for package, imports in rows}


def imported(package):
    """Return the packages that the files of a package import from, with an example of each."""
    place = MODULE_UTILS / package
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    found = {}
    for path in files:
        depth = len(path.relative_to(MODULE_UTILS).parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                for name in names:
                    found[name.split(".")[0]] = f"{path.relative_to(ROOT)}:{node.lineno}"
    found.pop(package, None)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package):
    assert package in allowed(), "add the package to the table in docs/architecture.md"
    wrong = {
        name: place for name, place in imported(package).items() if name not in allowed()[package]
    }
    assert wrong == {}


def test_the_table_names_packages_that_exist():
    assert set(allowed()) == set(PACKAGES)


def test_no_circle():
    left = {package: set(imported(package)) & set(PACKAGES) for package in PACKAGES}
    while left:
        leaves = [package for package, names in left.items() if not names & left.keys()]
        assert leaves, f"these import each other in a circle: {sorted(left)}"
        for package in leaves:
            del left[package]


def test_no_room_imports_ansible_but_the_runner():
    for path in MODULE_UTILS.rglob("*.py"):
        if path != MODULE_UTILS / "module.py":
            assert not re.search(r"^(from|import) ansible", path.read_text(), re.M), path
