from __future__ import annotations

from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)


def test_details_become_extra_return_values():
    error = GearvisorError("it does not start", process="mail_00", reason="ENOENT")
    assert str(error) == "it does not start"
    assert error.details == {"process": "mail_00", "reason": "ENOENT"}


def test_invalid_option_names_option_value_and_way_out():
    error = InvalidOption("batch", 0, "is below 1", "Use 1 or more", host="a")
    assert str(error) == "batch: 0 is below 1. Use 1 or more"
    assert error.details == {"option": "batch", "host": "a"}
    assert isinstance(error, GearvisorError)
