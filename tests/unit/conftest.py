"""Makes the checkout importable as the collection it is: ansible_collections.gearvisor.gearvisor.

pytest reads this file before it imports any test, and pyproject.toml puts .ansible/collections on
the import path. Only plugins/ is linked: a link to the whole checkout would contain itself.
"""

import importlib
from pathlib import Path

import hypothesis

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / ".ansible/collections/ansible_collections/gearvisor/gearvisor/plugins"

if not PLUGINS.exists():
    PLUGINS.parent.mkdir(parents=True, exist_ok=True)
    PLUGINS.unlink(missing_ok=True)
    PLUGINS.symlink_to(ROOT / "plugins")
    # The directory is on the import path already, remembered as one that does not exist.
    importlib.invalidate_caches()

# How long an example takes depends on how busy the machine is, not on the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
