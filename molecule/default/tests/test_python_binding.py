"""The Python binding's environments on a real host: swapped under workers, kept where that fails."""

import base64
import hashlib
import io
import zipfile

import pytest

VENV = "/srv/trial/venv"
WHEELHOUSE = "/srv/trial/wheelhouse"


def wheel(version):
    """Return the content of a wheel of the application."""
    info = f"trial-{version}.dist-info"
    files = {
        "trial.py": f"def trial(job):\n    return {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: trial\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def requirement(version):
    return f"trial=={version} --hash=sha256:{hashlib.sha256(wheel(version)).hexdigest()}"


@pytest.fixture(scope="module")
def binding(host, lab):
    """binding(**options): the module with the trial's environment; returns its result."""
    name = host.check_output("hostname")
    host.check_output(f"umask 022; mkdir -p {WHEELHOUSE}")
    for version in ("1.0", "2.0"):
        content = base64.b64encode(wheel(version)).decode()
        path = f"{WHEELHOUSE}/trial-{version}-py3-none-any.whl"
        host.check_output("umask 022; echo %s | base64 -d > %s", content, path)

    def converge(**options):
        given = {"venv": VENV, "wheelhouse": WHEELHOUSE, **options}
        return lab.module(name, "gearman_python_binding", given)

    yield converge
    host.check_output("rm -r /srv/trial")


@pytest.fixture(scope="module")
def workers(host, lab):
    """workers(): converge the fleet that runs from the environment; returns the module's result."""
    name = host.check_output("hostname")
    program = {
        "command": f"{VENV}/bin/gearvisor worker --server 127.0.0.1:4730 trial:trial",
        "user": "gearman-worker",
    }

    def converge(programs=None):
        fleet = {"fleet": "trial", "purge": True, "fingerprint": [VENV]}
        if programs is None:
            programs = {"trial": program}
        return lab.module(name, "supervisor_programs", {**fleet, "programs": programs})

    yield converge
    assert not converge({})["failed"]


def answer(host):
    return host.check_output("timeout 20 /opt/gearvisor/venv/bin/gearvisor submit trial x")


@pytest.mark.on("trixie")
def test_workers_follow_the_environment_and_nothing_else(host, binding, workers):
    def pid():
        return host.check_output("supervisorctl pid trial_00")

    first = binding(requirements=[requirement("1.0")])
    assert not first["failed"], first
    assert first["changed"]
    assert workers()["plan"]["added"] == ["trial_00"]
    assert answer(host) == "1.0"
    started = pid()

    # A second run changes nothing.
    assert not binding(requirements=[requirement("1.0")])["changed"]
    assert not workers()["changed"]
    assert pid() == started

    # What cannot be built leaves the environment and its workers alone.
    wrong = binding(requirements=["trial==2.0 --hash=sha256:" + "0" * 64])
    assert wrong["failed"]
    assert "What was in use before still is" in wrong["msg"]
    assert not workers()["changed"]
    assert (pid(), answer(host)) == (started, "1.0")

    # A swap leaves running workers on their files until they are restarted.
    second = binding(requirements=[requirement("2.0")])
    assert second["changed"]
    assert (pid(), answer(host)) == (started, "1.0")
    assert workers()["changed"]
    assert answer(host) == "2.0"
    assert pid() != started

    # The way back needs no wheel.
    host.check_output(f"rm {WHEELHOUSE}/*")
    back = binding(requirements=[requirement("1.0")])
    assert not back["failed"], back
    assert (back["changed"], back["environment"]) == (True, first["environment"])
    assert workers()["changed"]
    assert answer(host) == "1.0"


@pytest.mark.on("bookworm", "trixie")
def test_the_other_binding_is_the_pinned_one(host, binding):
    """From the host's package index, as it has no wheelhouse."""
    result = binding(venv="/srv/trial/pygearman", wheelhouse=None, binding="pygearman")
    assert not result["failed"], result
    python = "/srv/trial/pygearman/bin/python"
    host.check_output(f"{python} -c 'import gearman; gearman.GearmanWorker'")
    assert not binding(venv="/srv/trial/pygearman", wheelhouse=None, binding="pygearman")["changed"]


@pytest.mark.on("bookworm")
def test_another_python_makes_another_environment(host, binding):
    host.check_output("ln -s /usr/bin/python3 /usr/local/bin/python3.other")
    try:
        first = binding(venv="/srv/trial/other")
        second = binding(venv="/srv/trial/other", python="/usr/local/bin/python3.other")
        assert second["changed"]
        assert second["environment"] != first["environment"]
        host.check_output("/srv/trial/other/bin/gearvisor --version")
    finally:
        host.check_output("rm /usr/local/bin/python3.other")


@pytest.mark.on("bookworm")
def test_an_interpreter_that_debian_does_not_have_is_named_with_its_package(binding):
    result = binding(python="/usr/bin/python3.10")
    assert result["failed"]
    for word in ("python", "/usr/bin/python3.10", "python3.10-venv"):
        assert word in result["msg"]
