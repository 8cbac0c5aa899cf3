from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import package_version


@pytest.mark.parametrize("version", [None, "1.1.20+ds-1", "1.1.21*", "1:2~rc1", "latest"])
def test_versions(version):
    package_version.check(version)


@pytest.mark.parametrize(
    "version", ["", "*", "newest", "1.1.20 --x", "1.*.2", "-1", "1\n", "1" * 200, "1\udcff"]
)
def test_refused_versions(version):
    with pytest.raises(InvalidOption, match="version"):
        package_version.check(version)
