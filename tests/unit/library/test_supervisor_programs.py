from __future__ import annotations

import json

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import fleet
from ansible_collections.gearvisor.gearvisor.plugins.modules import supervisor_programs

testing = pytest.importorskip("ansible.module_utils.testing")

SECRET = "Hunter2-of-the-test"


def params(**given):
    """The parameters as Ansible hands them over: every argument is there."""
    known = {
        name: argument.get("default") for name, argument in supervisor_programs.ARGUMENTS.items()
    }
    assert set(given) <= set(known)
    return {**known, **given}


def test_the_request_has_what_was_asked_for():
    programs = {"mail": {"command": "/bin/true"}}
    request = supervisor_programs.request_from(
        params(programs=programs, batch=2, fingerprint=["/srv"], purge=True, fleet="shop-1_b")
    )
    assert request == fleet.Request(
        programs=programs, defaults={}, batch=2, fingerprint=("/srv",), purge=True, fleet="shop-1_b"
    )


def test_what_is_not_asked_for_is_the_same_in_both_places():
    assert supervisor_programs.request_from(params()) == fleet.Request(programs={}, defaults={})


@pytest.mark.parametrize(
    ("option", "value", "way_out"),
    [
        ("batch", 0, "Use 1 or more"),
        ("batch", -1, "Use 1 or more"),
        ("max_unavailable", 0, "Use 1 or more"),
        ("wait_timeout", 0, "Use 1 or more"),
        ("fleet", "", "Use letters, digits"),
        ("fleet", "a b", "Use letters, digits"),
        ("fleet", "a.b", "Use letters, digits"),
        ("fleet", "../a", "Use letters, digits"),
        ("fleet", "a\n", "Use letters, digits"),
        ("fleet", "a\u00a0b", "Use letters, digits"),
        ("fleet", "a" * 101, "Use letters, digits"),
        ("wait_timeout", 2**31, "Use 1 to 86400"),
    ],
)
def test_senseless_values_are_refused(option, value, way_out):
    with pytest.raises(InvalidOption) as caught:
        supervisor_programs.request_from(params(**{option: value}))
    assert str(caught.value).startswith(f"{option}: {value!r} ")
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"environment": {"PASSWORD": SECRET}},
        {"environment": f"PASSWORD={SECRET}"},
        {"enviroment": {"PASSWORD": SECRET}},
        [{"environment": {"PASSWORD": SECRET}}],
    ],
    ids=["as it should be", "as text", "misspelt", "as a list"],
)
@pytest.mark.parametrize("place", ["programs", "defaults"])
def test_without_secrets(given, place):
    given = {"mail": given} if place == "programs" else given
    shown = supervisor_programs.without_secrets(params(**{place: given}))
    assert SECRET not in json.dumps(shown)
    assert set(shown) == set(supervisor_programs.ARGUMENTS)


def test_without_secrets_shows_the_rest():
    given = params(programs={"mail": {"command": "/bin/true", "environment": {"A": "x"}}})
    shown = supervisor_programs.without_secrets(given)
    assert shown["programs"] == {"mail": {"command": "/bin/true", "environment": "(not shown)"}}
    # The parameters themselves stay as they are.
    assert given["programs"]["mail"]["environment"] == {"A": "x"}


def run_main(capsys, **arguments):
    """Run main() as Ansible does; return (exit code, result, everything that was printed)."""
    with testing.patch_module_args(arguments), pytest.raises(SystemExit) as stopped:
        supervisor_programs.main()
    printed = "".join(capsys.readouterr())
    return stopped.value.code, json.loads(printed), printed


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A host without Supervisor, where check mode plans and nothing else happens."""
    where = {
        "config": str(tmp_path / "supervisord.conf"),
        "directory": str(tmp_path),
        "supervisord": str(tmp_path / "supervisord"),
    }
    monkeypatch.setattr(fleet.Host, "__new__", _host_at(where))
    return tmp_path


def _host_at(where):
    original = fleet.Host.__new__

    def make(cls, run):
        return original(cls, run, **where)

    return make


MAIL = {"command": "/bin/true", "numprocs": 2, "environment": {"PASSWORD": SECRET}}


def test_check_mode_shows_the_plan_and_the_file_without_secrets(nowhere, capsys):
    code, result, printed = run_main(
        capsys, programs={"mail": MAIL}, _ansible_check_mode=True, _ansible_diff=True
    )
    assert code == 0
    assert result["changed"]
    assert result["plan"]["added"] == ["mail_00", "mail_01"]
    assert 'environment=PASSWORD="***"' in result["diff"][0]["after"]
    assert result["diff"][-1]["prepared"] == "start: mail_00\nstart: mail_01\n"
    environment = result["invocation"]["module_args"]["programs"]["mail"]["environment"]
    assert environment == "(not shown)"
    assert SECRET not in printed
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"programs": {"mail": {**MAIL, "numprocs": "x"}}}, "programs.mail.numprocs: 'x'"),
        ({"programs": {"mail": {"environment": MAIL["environment"]}}}, "is missing"),
        (
            {"programs": {"mail": {**MAIL, "enviroment": {"A": SECRET}}}},
            "Did you mean 'environment'",
        ),
        ({"programs": {"mail": {**MAIL, "environment": {"A": f"'\"{SECRET}"}}}}, "in a mix"),
        ({"programs": {"mail": MAIL}, "batch": 0}, "batch: 0 is below 1"),
        ({"programs": {"mail": MAIL}, "batch": "many"}, "batch"),
        ({"programs": {"mail": MAIL}, "no_such_argument": 1}, "no_such_argument"),
        ({"programs": {"mail": MAIL}}, "Supervisor is not on this host"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_failure_is_reported_without_secrets(nowhere, capsys, arguments, told):
    code, result, printed = run_main(capsys, **arguments)
    assert code == 1
    assert result["failed"]
    assert told in result["msg"]
    assert SECRET not in printed
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize("parameter", ["programs", "event_listeners", "fcgi_programs"])
def test_a_list_of_programs_is_a_mapping_by_name(nowhere, capsys, parameter):
    options = {"programs": {}, "event_listeners": {"events": ["TICK_5"]}}.get(
        parameter, {"socket": "unix:///run/x.sock"}
    )
    given = [{"name": "mail", "command": "/bin/true", **options}]
    code, result, _printed = run_main(capsys, **{parameter: given}, _ansible_check_mode=True)
    assert (code, result["changed"]) == (0, True)
    assert list(result["invocation"]["module_args"][parameter]) == ["mail"]


@pytest.mark.parametrize(
    ("programs", "told"),
    [
        ([MAIL], "has no name"),
        ([{"name": "a", **MAIL}] * 2, "two programs of the list"),
        (f"mail {SECRET}", "neither a mapping"),
        (7, "neither a mapping"),
    ],
    ids=str,
)
def test_programs_of_another_shape(nowhere, capsys, programs, told):
    code, result, printed = run_main(capsys, programs=programs)
    assert code == 1
    assert result["msg"].startswith("programs: ")
    assert told in result["msg"]
    assert SECRET not in printed


@pytest.mark.parametrize("user", ["a b", "a\0b", "\ud800", "x" * 300, "-x"])
def test_users_that_cannot_be_created(user):
    with pytest.raises(InvalidOption, match="create_users: "):
        supervisor_programs.request_from(params(create_users=[user]))


def test_details_of_a_failed_start_are_return_values(nowhere, capsys, monkeypatch):
    def fail(*_arguments):
        raise GearvisorError("it does not start", process="mail_00:mail_00", reason="r", output="o")

    monkeypatch.setattr(fleet, "converge", fail)
    code, result, printed = run_main(capsys, programs={"mail": MAIL})
    assert code == 1
    assert {result[name] for name in ("process", "reason", "output")} == {
        "mail_00:mail_00",
        "r",
        "o",
    }
    assert SECRET not in printed
