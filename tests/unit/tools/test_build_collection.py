"""What a release is made of: one version, no links, full names."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import build  # noqa: E402

MODULES = {path.stem for path in (ROOT / "library").glob("*.py")}
ROLES = {path.name for path in (ROOT / "roles").iterdir()}


def test_there_is_one_version():
    assert build.version(ROOT)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("- name: X\n  gearman_job:\n    function: f\n", "gearvisor.gearvisor.gearman_job:"),
        (
            "  ansible.builtin.import_role:\n    name: supervisor\n",
            "gearvisor.gearvisor.supervisor",
        ),
        ("  roles:\n    - role: gearman_php\n", "role: gearvisor.gearvisor.gearman_php"),
        (
            "  roles:\n    - gearman_php\n    - gearman_worker\n",
            "- gearvisor.gearvisor.gearman_worker",
        ),
        ("- name: supervisor\n", None),
        ("  hosts: gearman_workers\n", None),
        ("    that: gearman_job is defined\n", None),
    ],
)
def test_full_names(short, full):
    text = build.full_names(short, MODULES, ROLES)
    if full is None:
        assert text == short
    else:
        assert full in text
        assert text.count("gearvisor.gearvisor.") == text.count("gearman_") or "name: s" in short


def test_a_template_is_no_default_of_a_number():
    spec = '      a:\n        type: {}\n        default: "{{{{ b }}}}"\n'
    assert build.typed_defaults(spec.format("int")) == "      a:\n        type: int\n"
    assert build.typed_defaults(spec.format("str")) == spec.format("str")


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """The files of the collection that is built of this tree, as git knows it."""
    tree, output = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("output")
    names = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], check=True, stdout=subprocess.PIPE
    ).stdout
    tar = ["tar", "-c", "-C", ROOT, "--null", "--ignore-failed-read", "-T", "-"]
    packed = subprocess.run(tar, input=names, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=packed, check=True)
    archive = build.build_collection(tree, output)
    with tarfile.open(archive) as tar:
        return {
            member.name: None if not member.isfile() else tar.extractfile(member).read()
            for member in tar
            if not member.isdir()
        }


def test_the_collection_has_files_only(collection):
    assert [name for name, content in collection.items() if content is None] == []
    assert f"plugins/modules/{min(MODULES)}.py" in collection
    assert "plugins/module_utils/gearvisor/protocol.py" in collection
    assert "php/worker.php" in collection
    assert not [name for name in collection if name.startswith((".", "tests", "library", "python"))]


def test_the_collection_has_full_names_only(collection):
    for name, content in collection.items():
        if not name.startswith(("roles/", "playbooks/")) or "/tasks/" not in name:
            continue
        for task in yaml.safe_load(content):
            assert not MODULES & task.keys(), f"{name}: {task['name']}"
            for key in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                assert task.get(key, {}).get("name") not in ROLES, f"{name}: {task['name']}"
