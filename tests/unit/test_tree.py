"""What Ansible asks of the files in module_utils/ when they are used from a checkout."""

import pkgutil
from pathlib import Path

import ansible.module_utils
import pytest

MODULE_UTILS = Path(__file__).resolve().parents[2] / "module_utils"


def test_no_name_hides_one_of_ansibles():
    """ansible.cfg merges the folder into ansible.module_utils, where our names would win."""
    theirs = {module.name for module in pkgutil.iter_modules(ansible.module_utils.__path__)}
    assert not theirs & {path.stem for path in MODULE_UTILS.iterdir()}


FOLDERS = [
    path.name for path in MODULE_UTILS.iterdir() if path.is_dir() and path.name != "__pycache__"
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_a_package(folder):
    """Ansible does not send a folder without __init__.py to the target."""
    assert (MODULE_UTILS / folder / "__init__.py").is_file()
