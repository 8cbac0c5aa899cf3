# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import (
    GearvisorError,
    InvalidOption,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.python_binding import binding

WHEEL = ("gearvisor-1-py3-none-any.whl", b"wheel")
PASSWORD = "Hunter2-of-the-test"
REQUEST = binding.Request()


def digest(request=REQUEST, wheel=WHEEL, python="3.11", files=None):
    return binding.digest(request, wheel, python, files or {})


@pytest.mark.parametrize(
    "other",
    [
        {"request": binding.Request(binding="pygearman")},
        {"request": binding.Request(requirements=("six==1.17.0",))},
        {"request": binding.Request(python="/usr/bin/python3.11")},
        {"wheel": (WHEEL[0], b"newer")},
        {"python": "3.13"},
        {"files": {"/srv/requirements.txt": b"six==1.17.0\n"}},
    ],
    ids=["binding", "requirements", "python", "wheel", "version", "files"],
)
def test_digest_differs_with_what_goes_in(other):
    assert digest() == digest()
    assert digest(**other) != digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"wheelhouse": "/srv/wheelhouse"},
        {"index_url": "https://pypi.example.org/simple"},
        {"extra_index_urls": ("https://pypi.example.org/simple",)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_where_packages_come_from_does_not_count(fields):
    assert digest(binding.Request(**fields)) == digest()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"venv": "opt/venv"}, ["venv: 'opt/venv'", "/opt/gearvisor/venv"]),
        ({"venv": "/"}, ["venv: '/'", "/opt/gearvisor/venv"]),
        ({"requirements": ("a\nb",)}, ["requirements: 'a\\nb'", "one requirement"]),
        ({"requirements": ("-r /nowhere/x",)}, ["requirements: '-r /nowhere/x'", "Deploy"]),
        ({"python": "/nowhere/python3"}, ["python: '/nowhere/python3'", "No such file", "Install"]),
        ({"wheelhouse": "/nowhere/house"}, ["wheelhouse: '/nowhere/house'", "pip download"]),
        ({"wheelhouse": "house"}, ["wheelhouse: 'house'", "not a directory"]),
        ({"wheelhouse": "/etc/passwd"}, ["wheelhouse: '/etc/passwd'", "not a directory"]),
        (
            {"wheelhouse": "/etc", "index_url": "https://pypi.example.org"},
            ["wheelhouse: '/etc'", "Leave out one of wheelhouse and index_url"],
        ),
        (
            {"wheelhouse": "/etc", "extra_index_urls": ("https://pypi.example.org",)},
            ["wheelhouse: '/etc'", "Leave out one of wheelhouse and extra_index_urls"],
        ),
        ({"index_url": "pypi.example.org"}, ["index_url: 'pypi.example.org'", "https://"]),
        ({"index_url": "https://a b"}, ["index_url: 'https://a b'", "%20"]),
        ({"index_url": "ftp://me:pw@host/"}, ["index_url: 'ftp://host/'", "https://"]),
        (
            {"extra_index_urls": ("https://host/simple", "simple")},
            ["extra_index_urls: 'simple'", "https://"],
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_names_option_value_and_way_out(host, request_for, tmp_path, fields, words):
    with pytest.raises(InvalidOption) as error:
        host.converge(request_for(**fields))
    for word in words:
        assert word in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_made_by_somebody_else_is_refused(host, request_for):
    request = request_for()
    os.makedirs(request.venv)
    with pytest.raises(InvalidOption, match="not a link"):
        host.converge(request)


def test_in_check_mode_files_may_be_missing_that_an_earlier_task_deploys(host, request_for):
    request = request_for(
        requirements=("-r /nowhere/requirements.txt",), wheelhouse="/nowhere/wheelhouse"
    )
    assert host.converge(request, check_mode=True)["changed"]


def environments(request):
    return sorted(path.name for path in Path(request.venv).parent.iterdir())


def version_of(request, module):
    """The VERSION of a module in the environment in use, None if it cannot be imported."""
    code = f"import {module}; print({module}.VERSION)"
    done = subprocess.run(
        [f"{request.venv}/bin/python", "-c", code], capture_output=True, text=True
    )
    return done.stdout.strip() or None


def test_build_rerun_and_removal(host, request_for):
    request = request_for()
    host.template = None  # nothing is saved here

    assert host.converge(request, check_mode=True)["changed"]
    assert not os.path.exists(os.path.dirname(request.venv))

    umask = os.umask(0o077)
    try:
        result = host.converge(request)
    finally:
        os.umask(umask)
    assert result["changed"]
    assert result["environment"] == os.path.realpath(request.venv)
    answer = subprocess.run([f"{request.venv}/bin/gearvisor", "--help"], capture_output=True)
    assert b"worker" in answer.stdout
    # Workers run as other users, regardless of root's umask.
    for folder, _folders, files in os.walk(os.path.dirname(request.venv)):
        assert os.stat(folder).st_mode & stat.S_IXOTH, folder
        for file in files:
            assert os.stat(os.path.join(folder, file)).st_mode & stat.S_IROTH, file

    assert not host.converge(request)["changed"]

    absent = request._replace(state="absent")
    assert host.converge(absent, check_mode=True)["changed"]
    assert len(environments(request)) == 2
    assert host.converge(absent)["changed"]
    assert environments(request) == []
    assert not host.converge(absent)["changed"]


def test_a_deployment_from_a_wheelhouse_and_back(host, request_for, wheelhouse, tmp_path):
    helper = wheelhouse.add("helper", "1.0")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join([wheelhouse.add("app", "1.0", ["helper"]), helper]))
    request = request_for(requirements=(f"-r {requirements}",), wheelhouse=str(wheelhouse.path))
    host.converge(request)
    assert (version_of(request, "app"), version_of(request, "helper")) == ("1.0", "1.0")
    first = os.readlink(request.venv)

    # Hashes let another build of the same version be distinguished from this one.
    older = requirements.read_text()
    requirements.write_text("\n".join([wheelhouse.add("app", "2.0", ["helper"]), helper]))
    assert host.converge(request, check_mode=True)["changed"]
    assert os.readlink(request.venv) == first
    host.converge(request)
    assert version_of(request, "app") == "2.0"
    second = os.readlink(request.venv)
    assert environments(request) == sorted(["venv", first, second])
    assert not host.converge(request)["changed"]

    # Back: the environment that was kept serves again, and neither pip nor wheelhouse is needed.
    requirements.write_text(older)
    result = host.converge(request)
    assert (result["changed"], os.readlink(request.venv)) == (True, first)
    assert not host.used_pip()
    assert version_of(request, "app") == "1.0"


def test_what_cannot_be_built_leaves_the_old_serving(host, request_for, wheelhouse, monkeypatch):
    good = wheelhouse.add("app", "1.0")
    helper = wheelhouse.add("helper", "1.0")
    needs_helper = wheelhouse.add("app", "2.0", ["helper"])
    wheelhouse.add("gearvisor", "99")
    request = request_for(requirements=(good,), wheelhouse=str(wheelhouse.path))
    host.converge(request)
    before = environments(request)

    def refused(*lines, **fields):
        with pytest.raises(GearvisorError) as error:
            host.converge(request._replace(requirements=lines, **fields))
        assert "What was in use before still is" in str(error.value)
        assert environments(request) == before
        assert version_of(request, "app") == "1.0"
        assert not host.converge(request)["changed"]
        return str(error.value)

    told = refused("nosuchpackage==1")
    assert "requirements: ['nosuchpackage==1']" in told
    assert f"see that {wheelhouse.path} holds all" in told
    told = refused("app==1.0 --hash=sha256:" + "0" * 64)
    assert "Expected sha256 000" in told
    told = refused("gearvisor==99")
    assert "binding: 'gearvisor'" in told and "version 99 replaced" in told
    # A package of that name and version is not what the pin means.
    wheelhouse.add("pygearman", binding.PYGEARMAN)
    told = refused(binding="pygearman")
    assert "binding: 'pygearman'" in told and "Expected sha256" in told

    monkeypatch.setenv("PIP_NO_DEPS", "1")  # then only `pip check` sees that one is missing
    told = refused(needs_helper.split()[0])
    assert "requires helper, which is not installed" in told
    monkeypatch.delenv("PIP_NO_DEPS")

    # Each of them was refused for what was wrong with it only.
    host.converge(request._replace(requirements=(needs_helper, helper)))
    assert version_of(request, "app") == "2.0"


def test_an_environment_that_broke_is_made_anew(host, request_for, wheelhouse):
    request = request_for(
        requirements=(wheelhouse.add("app", "1.0"),), wheelhouse=str(wheelhouse.path)
    )
    host.converge(request)
    before = environments(request)
    package = next(Path(request.venv).glob("lib/python3*/site-packages/gearvisor"))
    (package / "__init__.py").unlink()
    (package / "__init__.py").write_text("broken!")
    assert host.converge(request, check_mode=True)["changed"]

    # Where that fails, what still works of it does so.
    (wheel,) = wheelhouse.path.iterdir()
    hidden = wheel.rename(wheel.with_suffix(".hidden"))
    with pytest.raises(GearvisorError, match=r"app==1\.0"):
        host.converge(request)
    assert environments(request) == before
    assert version_of(request, "app") == "1.0"

    hidden.rename(wheel)
    assert host.converge(request)["changed"]
    assert not host.converge(request)["changed"]
    assert environments(request) == before


def test_one_that_was_not_built_to_its_end_is_not_taken_up(host, request_for):
    request = request_for()
    host.converge(request)
    environment = os.path.realpath(request.venv)
    os.unlink(request.venv)
    os.unlink(f"{environment}/.complete")
    host.converge(request)
    assert host.used_pip()
    assert os.path.realpath(request.venv) == environment


def test_environments_that_processes_run_from_are_kept(host, request_for, tmp_path):
    request = request_for()

    def deploy(name):
        """Swap in an environment; it is another one for its Python's name."""
        python = tmp_path / name
        python.symlink_to(sys.executable)
        host.converge(request._replace(python=str(python)))
        return os.readlink(request.venv)

    first = deploy("first")
    # Started by a script's first line, as Supervisor starts `gearvisor`.
    script = Path(request.venv, "bin", "serve")
    code = "import sys; sys.stdin.read(); from gearvisor import client; print(client.__file__)"
    script.write_text(f"#!{os.path.realpath(request.venv)}/bin/python\n{code}\n")
    script.chmod(0o755)
    worker = subprocess.Popen([script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        second, third = deploy("second"), deploy("third")
        assert environments(request) == sorted(["venv", first, second, third])
    finally:
        # It finds its own files until it is restarted.
        assert f"/{first}/" in worker.communicate("")[0]
    fourth = deploy("fourth")
    assert environments(request) == sorted(["venv", third, fourth])


def test_environments_of_others_are_left_alone(host, request_for):
    request = request_for()
    other = request._replace(venv=f"{request.venv}-blue")
    for each in (request, other):
        host.converge(each)
    host.converge(request._replace(state="absent"))
    assert environments(other) == sorted(["venv-blue", os.readlink(other.venv)])


def test_a_password_is_in_no_argument_and_no_file(host, request_for, wheelhouse, index):
    wheelhouse.add("app", "1.0")
    place = index(wheelhouse.path, f"deploy:{PASSWORD}")
    request = request_for(
        requirements=("app",), index_url=f"http://deploy:{PASSWORD}@{place}/simple"
    )
    host.converge(request)
    assert version_of(request, "app") == "1.0"
    assert PASSWORD not in repr(host.commands)
    for folder, _folders, files in os.walk(os.path.dirname(request.venv)):
        for file in files:
            path = os.path.join(folder, file)
            assert os.path.islink(path) or PASSWORD.encode() not in Path(path).read_bytes()

    # A password that changed builds nothing; where it is wrong, the error names the index only.
    wrong = request._replace(index_url=request.index_url.replace(PASSWORD, PASSWORD[::-1]))
    assert not host.converge(wrong)["changed"]
    with pytest.raises(GearvisorError) as error:
        host.converge(wrong._replace(requirements=("app", "other")))
    assert f"reaches its package index at {place}" in str(error.value)
    assert PASSWORD[::-1] not in str(error.value)


def test_extra_indexes_are_asked_too(host, request_for, wheelhouse, index, tmp_path):
    wheelhouse.add("app", "1.0")
    empty = tmp_path / "empty"
    empty.mkdir()
    request = request_for(
        requirements=("app",),
        index_url=f"http://{index(empty)}/simple",
        extra_index_urls=(
            f"http://{index(empty)}/simple",
            f"http://me:{PASSWORD}@{index(wheelhouse.path, f'me:{PASSWORD}')}/simple",
        ),
    )
    host.converge(request)
    assert version_of(request, "app") == "1.0"
    assert PASSWORD not in repr(host.commands)


def test_another_python_makes_another_environment(host, request_for, tmp_path):
    request = request_for()
    host.converge(request)
    other = tmp_path / "python3"
    other.symlink_to(sys.executable)
    result = host.converge(request._replace(python=str(other)), check_mode=True)
    assert result["changed"]
    assert result["environment"] != os.path.realpath(request.venv)


APP_USER = 12345


def give_to_its_user(*paths):
    for path in paths:
        os.chown(path, APP_USER, APP_USER)


@pytest.fixture
def application(tmp_path):
    """The directory of an application, which belongs to its user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path = tmp_path / "mail"
    path.mkdir()
    give_to_its_user(path)
    return path


def test_a_command_at_a_place_that_the_workers_user_controls_is_refused(
    host, request_for, application
):
    with pytest.raises(InvalidOption, match=r"^command: .* belongs to user 12345"):
        host.converge(request_for(command=f"{application}/gearvisor"))
    assert host.commands == []


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_place_that_the_workers_user_controls_is_refused(host, request_for, application, state):
    (application / "venv-0123456789ab").mkdir()
    (application / "venv").symlink_to("venv-0123456789ab")
    with pytest.raises(
        InvalidOption, match=r"^venv: .* belongs to user 12345.*trusted_users"
    ) as no:
        host.converge(request_for(venv=f"{application}/venv", state=state))
    assert no.value.details["option"] == "venv"
    assert host.commands == []


def test_a_wheelhouse_that_others_control_is_refused(host, request_for, application):
    with pytest.raises(InvalidOption, match=r"^wheelhouse: .* belongs to user 12345"):
        host.converge(request_for(wheelhouse=str(application)))


@pytest.mark.parametrize(
    "line", ["{}", "-e {}", "--find-links {}", "mail @ file://{}", "--index-url file://{}"]
)
def test_a_source_that_others_control_is_refused(host, request_for, application, line):
    with pytest.raises(InvalidOption, match=r"^requirements: .* belongs to user 12345"):
        host.converge(request_for(requirements=(line.format(application),)))


def test_requirements_of_the_applications_user_are_taken_by_content(
    host, request_for, wheelhouse, application
):
    wheelhouse.add("app", "1.0", ["helper"])
    helper = Path(wheelhouse.path, "helper-1.0-py3-none-any.whl")
    wheelhouse.add("helper", "1.0")
    moved = application / helper.name
    helper.rename(moved)
    files = application / "requirements.txt", application / "more.txt"
    files[0].write_text("-r more.txt\n")
    files[1].write_text(f"app\n{moved}\n")
    for file in files:
        file.chmod(0o600)
    give_to_its_user(*files, moved)
    request = request_for(requirements=(f"-r {files[0]}",), wheelhouse=str(wheelhouse.path))
    host.converge(request)
    assert version_of(request, "app") == version_of(request, "helper") == "1.0"
    assert not host.converge(request)["changed"]
    files[1].write_text(f"app\n{moved}\n# changed\n")
    assert host.converge(request, check_mode=True)["changed"]


@pytest.mark.parametrize("name", ["requirements.txt", "more.txt"])
def test_no_file_of_roots_is_read_for_others(host, request_for, application, name):
    secret = application.parent / "secret"
    secret.write_text("root:hash")
    secret.chmod(0o600)
    (application / "requirements.txt").write_text("-r more.txt\n")
    (application / "requirements.txt").chmod(0o644)
    (application / name).unlink(missing_ok=True)
    (application / name).symlink_to(secret)
    with pytest.raises(InvalidOption, match="Permission denied") as refused:
        host.converge(request_for(requirements=(f"-r {application}/requirements.txt",)))
    assert "hash" not in str(refused.value)


def test_no_code_of_the_environment_runs_as_root(host, request_for, wheelhouse, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    seen = tmp_path / "seen"
    seen.mkdir()
    seen.chmod(0o1777)
    code = f"import os; open(f'{seen}/{{os.getuid()}}', 'w').close()"
    wheelhouse.add("sneaky", "1.0", extra={"sneaky.pth": f"{code}\n"})
    request = request_for(requirements=("sneaky",), wheelhouse=str(wheelhouse.path))
    for _run in range(2):
        host.converge(request)
        host.converge(request, check_mode=True)
    uids = {int(path.name) for path in seen.iterdir()}
    assert uids and not uids & {0, os.getuid()}
    for folder, folders, files in os.walk(os.path.realpath(request.venv)):
        for name in ("", *folders, *files):
            found = os.lstat(os.path.join(folder, name))
            assert found.st_uid == 0
            assert stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o022


def test_a_wheelhouse_that_only_root_can_read_serves(host, request_for, wheelhouse):
    wheelhouse.add("app", "1.0")
    wheelhouse.path.chmod(0o700)
    request = request_for(requirements=("app",), wheelhouse=str(wheelhouse.path))
    host.converge(request)
    assert version_of(request, "app") == "1.0"


def test_roots_pip_configuration_counts(
    host, request_for, wheelhouse, index, monkeypatch, tmp_path
):
    wheelhouse.add("app", "1.0")
    configuration = tmp_path / "pip.conf"
    configuration.write_text(f"[global]\nindex-url = http://{index(wheelhouse.path)}/simple\n")
    configuration.chmod(0o600)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    request = request_for(requirements=("app",))
    host.converge(request)
    assert version_of(request, "app") == "1.0"
