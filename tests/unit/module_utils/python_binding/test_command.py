"""The command on PATH is a link that this module makes, replaces and removes; other files stay."""

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python_binding import (
    binding,
    command,
)


@pytest.fixture
def request_of(tmp_path):
    fixed = {"venv": "/opt/a/venv", "command": str(tmp_path / "bin/gearvisor")}
    return lambda **fields: binding.Request(**{**fixed, **fields})


def converge(request):
    before, after, warnings = command.change(request)
    if before != after:
        command.apply(request, after)
    return before, after, warnings


def test_it_is_made_once_follows_the_environment_and_goes_with_it(request_of, tmp_path):
    link = tmp_path / "bin/gearvisor"
    assert converge(request_of()) == (None, "/opt/a/venv/bin/gearvisor", [])
    assert str(link.readlink()) == "/opt/a/venv/bin/gearvisor"
    assert converge(request_of())[0] == "/opt/a/venv/bin/gearvisor"
    converge(request_of(venv="/opt/b/venv"))
    assert str(link.readlink()) == "/opt/b/venv/bin/gearvisor"
    # Another environment's, by now.
    converge(request_of(state="absent"))
    assert link.is_symlink()
    converge(request_of(state="absent", venv="/opt/b/venv"))
    assert not link.is_symlink()


@pytest.mark.parametrize("fields", [{"command": None}, {"binding": "pygearman"}])
def test_no_link_where_there_is_no_command(request_of, tmp_path, fields):
    converge(request_of(**fields))
    assert not (tmp_path / "bin").exists()


def test_a_file_of_others_stays_with_a_warning(request_of, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gearvisor").write_text("mine")
    before, after, warnings = converge(request_of())
    assert before == after
    assert "stays as it is" in warnings[0]
    assert (tmp_path / "bin/gearvisor").read_text() == "mine"
    assert converge(request_of(state="absent"))[2] == []
