"""Makes the checkout importable as the collection it is: ansible_collections.gearvisor.gearvisor.

pytest reads this file before it imports any test, and pyproject.toml puts .ansible/collections on
the import path. Only plugins/ is linked: a link to the whole checkout would contain itself.
"""

import importlib
import json
import signal
from pathlib import Path

import hypothesis
import pytest

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


def _stop(*_arguments):
    raise AssertionError("it hangs")


@pytest.fixture
def ends_well():
    """Call it with a function and what describes the case: whether that returns, or ends in a sentence for users.

    *described*() is called only for a failure: odd values may have no text. Another exception, a sentence that
    fills the screen or cannot be printed, and two minutes fail the test.
    """
    from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError

    def does(function, described):
        signal.alarm(120)
        try:
            function()
        except GearvisorError as error:
            # One sentence or two, that Ansible can print.
            assert len(str(error)) < 4000, f"{described()}: {str(error)[:300]}"
            json.dumps(str(error))
            return False
        except Exception as error:
            raise AssertionError(f"{described()}: {error!r}") from error
        return True

    before = signal.signal(signal.SIGALRM, _stop)
    yield does
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
