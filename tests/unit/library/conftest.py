"""Modules run in the tests' process: they must not wait for, nor recover, the machine's own host."""

import pytest
from ansible.module_utils import _internal
from ansible_collections.gearvisor.gearvisor.plugins.module_utils import recovery
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import lock


@pytest.fixture(autouse=True)
def apart_from_this_host(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(lock, "PATH", str(tmp_path_factory.mktemp("lock") / "lock"))
    monkeypatch.setattr(recovery, "recover", lambda _host, _seconds: [])
    monkeypatch.setattr(recovery, "report", lambda _host: [])
    # Other tests may have imported what only the control node has: warnings would go to its display.
    monkeypatch.setattr(_internal, "is_controller", False, raising=False)
