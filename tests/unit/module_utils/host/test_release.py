# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import release


@pytest.mark.parametrize("version", ["12", "13"])
def test_supported(tmp_path, version):
    path = tmp_path / "os-release"
    path.write_text(
        f'PRETTY_NAME="Debian GNU/Linux {version}"\nID=debian\nVERSION_ID="{version}"\n'
    )
    release.check_supported(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 11"\nID=debian\nVERSION_ID="11"\n', "Debian GNU/Linux 11"),
        ('PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nVERSION_ID="24.04"\n', "Ubuntu 24.04 LTS"),
        ("PRETTY_NAME='Debian sid'\nID=debian\n", "Debian sid"),
        ("# nothing\n\nnonsense\n", "a system without /etc/os-release"),
        (None, "a system without /etc/os-release"),
    ],
)
def test_any_other_system_is_named_and_refused(tmp_path, content, name):
    path = tmp_path / "os-release"
    if content is not None:
        path.write_text(content)
    with pytest.raises(GearvisorError) as caught:
        release.check_supported(path)
    for word in (name, "supports Debian 12 and 13", "inventory groups"):
        assert word in str(caught.value)
