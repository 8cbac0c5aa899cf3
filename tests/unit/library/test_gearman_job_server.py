from __future__ import annotations

import json

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    options,
    present,
    queues,
    server,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server.state import Request
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.outcome import Outcome
from ansible_collections.gearvisor.gearvisor.plugins.modules import gearman_job_server

testing = pytest.importorskip("ansible.module_utils.testing")


def params(**given):
    """The parameters as Ansible hands them over: every argument is there."""
    known = {
        name: argument.get("default") for name, argument in gearman_job_server.ARGUMENTS.items()
    }
    assert set(given) <= set(known)
    return {**known, **given}


def test_what_is_not_asked_for_is_the_same_in_both_places():
    assert server.request_from(params()) == Request(options.Settings())


def test_the_request_has_what_was_asked_for():
    request = server.request_from(
        params(port=4731, queue={"type": "sqlite"}, restart="drain", version="1.1.2*")
    )
    queue = queues.typed_queue({"type": "sqlite"})
    assert request == Request(
        options.Settings(port=4731, queue=queue), restart="drain", version="1.1.2*"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("drain_timeout", 0),
        ("ready_timeout", -1),
        ("version", "newest"),
        ("port", 70000),
        ("ready_timeout", 10**9),
    ],
)
def test_senseless_values_are_refused(option, value):
    with pytest.raises(InvalidOption) as caught:
        server.request_from(params(**{option: value}))
    assert str(caught.value).startswith(f"{option}: {value!r} ")


def run_main(capsys, **arguments):
    """Run main() as Ansible does; return (exit code, result)."""
    with testing.patch_module_args(arguments), pytest.raises(SystemExit) as stopped:
        gearman_job_server.main()
    return stopped.value.code, json.loads(capsys.readouterr().out)


def test_errors_name_the_option(capsys):
    code, result = run_main(capsys, job_retries=300)
    assert code == 1
    assert result["msg"].startswith("job_retries: 300 is not from 1 to 255")
    assert result["option"] == "job_retries"


def test_other_queue_types_are_not_offered(capsys):
    code, result = run_main(capsys, queue={"type": "tokyocabinet"})
    assert code == 1
    assert "builtin, libsqlite3, mysql" in result["msg"]


def test_a_password_is_not_shown(capsys, monkeypatch):
    secret = "Hunter2-of-the-test"

    def converge(request, host):
        (line,) = [line for line in request.settings.queue.lines() if secret in line]
        raise GearvisorError(f"it does not start: {line}", log=line)

    monkeypatch.setattr(present, "converge", converge)
    queue = {"type": "mysql", "password": secret}
    with testing.patch_module_args({"queue": queue}), pytest.raises(SystemExit):
        gearman_job_server.main()
    printed = "".join(capsys.readouterr())
    assert "it does not start" in printed
    assert secret not in printed


def test_results_and_warnings_are_handed_on(capsys, monkeypatch):
    def converge(request, host):
        assert host.check_mode
        details = {"server": "127.0.0.1:4730"}
        return Outcome(changed=True, warnings=["Mind the gap"], details=details)

    monkeypatch.setattr(present, "converge", converge)
    code, result = run_main(capsys, _ansible_check_mode=True)
    assert code == 0
    assert result["changed"]
    assert "Mind the gap" in json.dumps(result["warnings"])
