from __future__ import annotations

import os
import pathlib
import pwd
import stat

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import GearvisorError
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import requirements
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.log_places import (
    Surroundings,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.sections import Section

PATH = "/usr/bin:/bin"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")


def problems(**options):
    section = Section("mail", "mail_00", {"command": "/bin/sleep 60", **options})
    return [str(problem) for problem in requirements.problems(section, PATH)]


@pytest.fixture
def open_path(tmp_path):
    """tmp_path, for every user."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.owner() == pwd.getpwuid(os.geteuid()).pw_name and str(directory) != "/":
            directory.chmod(directory.stat().st_mode | 0o055)
    return tmp_path


@pytest.fixture
def tool(open_path):
    path = open_path / "tool"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"user": "root"},
        {"user": "0"},
        {"command": "sleep 60"},
        {"command": "%(ENV_HOME)s/bin/x"},
        {"command": "/bin/sh -c 'echo \"a b\"'"},
        {"directory": "/"},
        {"directory": "/not-there-yet"},
        {"directory": "%(here)s/x"},
    ],
    ids=str,
)
def test_what_this_host_can_run(options):
    assert problems(**options) == []


@pytest.mark.parametrize(
    ("options", "option", "problem", "way_out"),
    [
        ({"user": "nobody-here"}, "user", "'nobody-here' does not exist", "Create it first"),
        ({"user": "4000111222"}, "user", "'4000111222' does not exist", "Create it first"),
        (
            {"command": "/not/there x"},
            "command",
            "begins with /not/there, which is not on this host",
            "Install it first",
        ),
        ({"command": "not-there-either"}, "command", "not on this host", "Install it first"),
        (
            {"command": "/usr/bin"},
            "command",
            "begins with /usr/bin, which is not",
            "correct the path",
        ),
        ({"command": "/bin/sh -c 'x"}, "command", "holds an unbalanced quote", "Close it"),
        ({"command": "/etc/passwd"}, "command", "root may not execute", "Set its mode"),
        ({"directory": "/etc/passwd"}, "directory", "is not a directory", "Use another path"),
    ],
    ids=str,
)
def test_what_this_host_cannot_run(options, option, problem, way_out):
    (message,) = problems(**options)
    assert message.startswith(f"programs.mail.{option}: {options[option]!r} ")
    assert problem in message
    assert way_out in message


def test_all_problems_are_reported():
    assert len(problems(user="nobody-here", command="/not/there", directory="/etc/passwd")) == 3


def test_a_command_without_a_slash_is_looked_up_in_the_programs_own_path(tool):
    assert "not on this host" in problems(command="tool")[0]
    assert problems(command="tool", environment=f'PATH="{tool.parent}"') == []
    assert "not on this host" in problems(command="sleep 1", environment='PATH="/nowhere"')[0]


@needs_root
def test_a_command_must_be_executable_by_the_programs_user(tool):
    assert problems(command=str(tool), user="nobody") == []
    hidden = tool.with_name("hidden")
    hidden.mkdir(mode=0o700)
    inside = tool.rename(hidden / "tool")
    assert problems(command=str(inside)) == []
    (message,) = problems(command=str(inside), user="nobody")
    assert f"begins with {inside}, which nobody may not execute" in message


def test_missing_directories_and_whose_they_are():
    sections = [
        Section(
            "mail",
            "mail_00",
            {"stdout_logfile": "/no/log/a.log", "directory": "/no-srv", "user": "www-data"},
        ),
        Section("news", "news_00", {"stderr_logfile": "/no/log/b.log", "stdout_logfile": "AUTO"}),
        Section("rest", "rest_00", {"stdout_logfile": "/tmp/x.log", "directory": "/tmp"}),
        Section("later", "later_00", {"directory": "%(here)s/x", "stdout_logfile": "%(here)s/x/y"}),
        Section("early", "early_00", {"directory": "/srv/app/current"}),
    ]
    assert requirements.missing_directories(sections) == {
        "/etc/supervisor/x": None,
        "/no/log": None,
        "/no-srv": "www-data",
    }


@needs_root
@pytest.mark.parametrize(
    ("directory", "problem", "way_out"),
    [
        ("missing/app", "in the way of a deploy", "Deploy first, or make {}/missing"),
        ("current", "in the way of a deploy", "Deploy first, or make it"),
        ("release/", "in the way of a deploy", "Deploy first, or make it"),
        ("of-user/app", "belongs to user www-data", "make it as that user"),
        ("open/app", "can be written by all users", "Deploy first"),
        ("dangling", "is a link to /not/there, which does not exist", "correct the link"),
    ],
)
def test_working_directories_that_are_not_made(open_path, directory, problem, way_out):
    user = open_path / "of-user"
    user.mkdir()
    os.chown(user, *requirements.user_id("www-data"))
    (open_path / "open").mkdir()
    (open_path / "open").chmod(0o777)
    (open_path / "dangling").symlink_to("/not/there")
    path = f"{open_path}/{directory}"
    (message,) = problems(directory=path)
    assert message.startswith(f"programs.mail.directory: {path!r} ")
    assert problem in message
    assert way_out.format(open_path) in message
    section = Section("mail", "mail_00", {"command": "/bin/x", "directory": path})
    assert requirements.missing_directories([section]) == {}


@needs_root
def test_a_trusted_users_directory_is_used(open_path):
    os.chown(open_path, *requirements.user_id("www-data"))
    path = str(open_path / "app")
    section = Section("mail", "mail_00", {"directory": path, "user": "nobody"})
    trusting = Surroundings(trusted_users=("www-data",))
    assert requirements.missing_directories([section]) == {}
    assert requirements.missing_directories([section], trusting) == {path: "nobody"}
    with pytest.raises(GearvisorError, match="belongs to user www-data"):
        requirements.make_directories({path: "nobody"})
    assert requirements.make_directories({path: "nobody"}, ["www-data"]) == [path]
    assert pathlib.Path(path).owner() == "nobody"


@needs_root
def test_a_directory_that_becomes_a_link_meanwhile_is_not_followed(open_path):
    """L11: the parent is the worker's, who puts a link there while root makes the directory."""
    parent = open_path / "rp"
    parent.mkdir()
    os.chown(parent, *requirements.user_id("nobody"))
    (parent / "sub").symlink_to("/etc/supervisor")
    before = os.stat("/etc").st_uid
    with pytest.raises(GearvisorError, match="belongs to user nobody"):
        requirements.make_directories({str(parent / "sub/conf.d/x"): "nobody"})
    assert os.stat("/etc").st_uid == before
    assert not os.path.lexists("/etc/supervisor/conf.d/x")


@pytest.mark.parametrize(
    ("variable", "refused"), [('a"b', True), ("a'b", True), ("a\\b", True), ("/usr/bin", False)]
)
def test_a_variable_that_would_break_the_quoting(variable, refused):
    section = Section("mail", "mail_00", {"command": "/bin/sleep", "environment": 'A="%(ENV_X)s"'})
    given = Surroundings(environment={"X": variable})
    found = [str(problem) for problem in requirements.problems(section, PATH, (), given)]
    assert bool(found) is refused
    if refused:
        assert "environment_expanded.A" in found[0]
        assert variable not in found[0]


@needs_root
def test_directories_are_made_and_taken_back(tmp_path):
    old_umask = os.umask(0o077)
    try:
        made = requirements.make_directories(
            {str(tmp_path / "a/b/c"): "www-data", str(tmp_path / "a/log"): None}
        )
    finally:
        os.umask(old_umask)
    assert made == [str(tmp_path / path) for path in ("a", "a/b", "a/b/c", "a/log")]
    owners = {path: pathlib.Path(path).owner() for path in made}
    assert owners == dict(zip(made, ["root", "root", "www-data", "root"]))
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in made} == {0o755}
    requirements.remove_directories(made)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_in_it_is_not_taken_back(tmp_path):
    made = requirements.make_directories({str(tmp_path / "log"): None, str(tmp_path / "srv"): None})
    (tmp_path / "srv/found").write_text("x")
    requirements.remove_directories(made)
    assert [path.name for path in tmp_path.iterdir()] == ["srv"]


def test_a_directory_that_cannot_be_made_leaves_none(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(GearvisorError) as caught:
        requirements.make_directories({str(tmp_path / "a/b"): None, str(tmp_path / "file/c"): None})
    assert f"The directory {tmp_path}/file/c cannot be made" in str(caught.value)
    assert "Make it first" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@needs_root
def test_a_socket_that_others_could_redirect(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)

    def problems(path, trusted=()):
        options = {"command": "/bin/sleep 60", "socket": f"unix://{path}"}
        section = Section("app", "app_00", options, "fcgi-program")
        surroundings = Surroundings(trusted_users=trusted)
        return [str(each) for each in requirements.problems(section, "/bin", (), surroundings)]

    assert problems("/run/app.sock") == problems("/tmp/app.sock") == []
    assert problems(tmp_path / "theirs/app.sock", ["nobody"]) == []
    (problem,) = problems(tmp_path / "theirs/app.sock")
    assert "fcgi_programs.app.socket" in problem and "belongs to user nobody" in problem
    assert "Write unix:///run/app.sock" in problem
