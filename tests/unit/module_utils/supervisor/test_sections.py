from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import sections
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.options import (
    typed_program,
)

# The block of the article that Gearvisor starts from, which Supervisor itself refuses.
ARTICLE = {
    "command": "php /var/www/myprocess.php",
    "numprocs": 12,
    "directory": "/var/www",
    "autostart": True,
    "autorestart": True,
    "stdout_logfile": "/var/log/myprocess.log",
    "stdout_logfile_maxbytes": "1MB",
    "stderr_logfile": "/var/log/myprocess.log",
    "stderr_logfile_maxbytes": "1MB",
}


def sections_of(name="mail", kind="processes", **given):
    given = {"command": "/bin/true", **given}
    return sections.sections(name, typed_program(name, given), kind)


def groups(*arguments, **given):
    return [section.group for section in sections_of(*arguments, **given)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["mail_00"]),
        ({"numprocs": 3}, ["mail_00", "mail_01", "mail_02"]),
        ({"numprocs": 12}, [f"mail_{number:02d}" for number in range(12)]),
        ({"numprocs": 0}, []),
        ({"numprocs": 2, "numprocs_start": 7}, ["mail_07", "mail_08"]),
        ({"numprocs": 2, "numprocs_start": 99}, ["mail_99", "mail_100"]),
        ({"numprocs": 2, "process_name": "w%(process_num)d"}, ["w0", "w1"]),
        (
            {"numprocs": 2, "process_name": "%(program_name)s.%(process_num)03d"},
            ["mail.000", "mail.001"],
        ),
        ({"process_name": "%(program_name)s"}, ["mail"]),
        ({"process_name": "only"}, ["only"]),
    ],
    ids=str,
)
def test_one_section_a_process(given, expected):
    result = sections_of(**given)
    assert [section.group for section in result] == expected
    assert [section.title for section in result] == [f"program:{name}" for name in expected]
    for section in result:
        assert section.program == "mail"
        assert not {"numprocs", "numprocs_start", "process_name"} & set(section.options)


@pytest.mark.parametrize(
    ("given", "process_name"),
    [
        ({}, None),
        ({"numprocs": 1}, None),
        ({"numprocs": 12}, "%(program_name)s_%(process_num)02d"),
        ({"numprocs": 2, "process_name": "w%(process_num)d"}, "w%(process_num)d"),
        ({"process_name": "only"}, "only"),
    ],
    ids=str,
)
def test_numprocs_layout_is_one_section(given, process_name):
    (section,) = sections_of(kind="numprocs", **given)
    assert section.title == "program:mail"
    assert section.options.get("process_name") == process_name
    assert section.options.get("numprocs") == (
        str(given["numprocs"]) if "numprocs" in given else None
    )


def test_numprocs_layout_scaled_to_zero_is_no_section():
    assert sections_of(kind="numprocs", numprocs=0) == []


@pytest.mark.parametrize("kind", ["processes", "numprocs"])
@pytest.mark.parametrize(
    "pattern", ["worker", "%(program_name)s", "w_%%(process_num)d", "x%(program_name)s"]
)
def test_process_names_that_are_not_one_a_process_are_refused(kind, pattern):
    with pytest.raises(InvalidOption) as caught:
        sections_of(kind=kind, numprocs=2, process_name=pattern)
    message = str(caught.value)
    assert message.startswith(f"programs.mail.process_name: {pattern!r} gives ")
    assert "%(process_num)02d" in message


@pytest.mark.parametrize(
    "pattern",
    [
        "a/%(process_num)d",
        "a b",
        "a:%(process_num)d",
        "x]%(process_num)d",
        "%(here)s",
        "%(process_num)2d",
    ],
)
def test_process_name_that_is_no_section_name_is_refused(pattern):
    with pytest.raises(InvalidOption, match="not a valid section name") as caught:
        sections_of(process_name=pattern)
    assert str(caught.value).startswith(f"programs.mail.process_name: {pattern!r} ")


def test_expansions_are_filled_in_where_processes_differ():
    first, second = sections_of(
        numprocs=2,
        command="/bin/x %(program_name)s %(process_num)02d %(here)s %(ENV_HOME)s 100%%",
        stdout_logfile="/var/log/%(program_name)s-%(process_num)d.log",
    )
    assert first.options["command"] == "/bin/x mail 00 %(here)s %(ENV_HOME)s 100%%"
    assert second.options["command"] == "/bin/x mail 01 %(here)s %(ENV_HOME)s 100%%"
    assert first.options["stdout_logfile"] == "/var/log/mail-0.log"
    assert second.options["stdout_logfile"] == "/var/log/mail-1.log"


def test_scaling_leaves_the_other_sections_as_they_are():
    three = {section.group: section for section in sections_of(numprocs=3, stdout_logfile="/l.log")}
    five = {section.group: section for section in sections_of(numprocs=5, stdout_logfile="/l.log")}
    assert {group: five[group] for group in three} == three
    assert sorted(set(five) - set(three)) == ["mail_03", "mail_04"]


@pytest.mark.parametrize(
    ("value", "problem", "way_out"),
    [
        ("date +%Y", "cannot expand, at '%Y'", "Write a literal '%' as '%%'"),
        ("date +%s", "cannot expand, at '%s'", "Write a literal '%' as '%%'"),
        ("x 5%", "cannot expand, at '%'", "Write a literal '%' as '%%'"),
        ("x %(process_num)", "cannot expand", "Write a literal '%' as '%%'"),
        ("x %(process_num)c", "cannot expand", "Write a literal '%' as '%%'"),
        ("x %(nothing)s", "unknown expansion 'nothing'", "program_name, group_name, process_num"),
        ("x %(program_name)d", "conversion does not fit", "Use 'd' for numbers"),
        ("x %(ENV_N)d", "conversion does not fit", "'s' for everything else"),
        ("x %(numprocs)d", "scaling would change every process", "layout: numprocs"),
    ],
    ids=lambda value: value,
)
def test_bad_expansion(value, problem, way_out):
    with pytest.raises(InvalidOption) as caught:
        sections_of(command=value)
    message = str(caught.value)
    assert message.startswith(f"programs.mail.command: {value!r} ")
    assert problem in message
    assert way_out in message


def test_numprocs_may_be_expanded_where_every_change_restarts_all_anyway():
    (section,) = sections_of(kind="numprocs", numprocs=2, command="/bin/x %(numprocs)d")
    assert section.options["command"] == "/bin/x %(numprocs)d"


@pytest.mark.parametrize("path", ["/l/a%%b.log", "/l/a%%s.log", "/l/%%(here)d.log"])
def test_log_files_are_expanded_twice(path):
    with pytest.raises(InvalidOption, match="a second time") as caught:
        sections_of(stdout_logfile=path)
    assert "'%%%%'" in str(caught.value)
    (section,) = sections_of(stdout_logfile="/l/a%%%%b.log")
    assert section.options["stdout_logfile"] == "/l/a%%%%b.log"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("directory", "srv"),
        ("directory", "./srv"),
        ("stdout_logfile", "mail.log"),
        ("stderr_logfile", "log/mail.log"),
    ],
)
def test_relative_path_is_refused(option, value):
    with pytest.raises(InvalidOption) as caught:
        sections_of(**{option: value})
    assert str(caught.value) == (
        f"programs.mail.{option}: {value!r} is not an absolute path. Write it from / on"
    )


@pytest.mark.parametrize("log", ["AUTO", "none", "off", "/dev/stdout", "%(here)s/x.log"])
def test_log_places_that_are_accepted(log):
    (section,) = sections_of(stdout_logfile=log)
    assert section.options["stdout_logfile"] == log


LOG, SIZE, ERR, ERR_SIZE = (
    "stdout_logfile",
    "stdout_logfile_maxbytes",
    "stderr_logfile",
    "stderr_logfile_maxbytes",
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({LOG: "/l/a.log"}, [{LOG: "/l/a.log"}]),
        (
            {LOG: "/l/a.log", ERR: "/l/a.log"},
            [{LOG: "/l/a.log", "redirect_stderr": "true"}],
        ),
        (
            {LOG: "/l/a.log", ERR: "/l/a.log", "stderr_logfile_backups": 3, ERR_SIZE: 0},
            [{LOG: "/l/a.log", "redirect_stderr": "true"}],
        ),
        (
            {LOG: "/l/a.log", SIZE: 0, ERR: "/l/a.log", ERR_SIZE: 0},
            [{LOG: "/l/a.log", SIZE: "0", ERR: "/l/a.log", ERR_SIZE: "0"}],
        ),
        (
            {"numprocs": 2, LOG: "/l/a.log"},
            [{LOG: "/l/a.log"}, {LOG: "/l/a_01.log"}],
        ),
        (
            {"numprocs": 2, LOG: "/l/log"},
            [{LOG: "/l/log"}, {LOG: "/l/log_01"}],
        ),
        (
            {"numprocs": 2, LOG: "/l/a.log", SIZE: 0},
            [{LOG: "/l/a.log", SIZE: "0"}, {LOG: "/l/a.log", SIZE: "0"}],
        ),
        (
            {"numprocs": 2, LOG: "/l/a.log", ERR: "/l/b.log"},
            [{LOG: "/l/a.log", ERR: "/l/b.log"}, {LOG: "/l/a_01.log", ERR: "/l/b_01.log"}],
        ),
        (
            {"numprocs": 2, LOG: "/l/%(process_num)d.log"},
            [{LOG: "/l/0.log"}, {LOG: "/l/1.log"}],
        ),
        ({"numprocs": 2, LOG: "AUTO"}, [{LOG: "AUTO"}, {LOG: "AUTO"}]),
        ({"numprocs": 2, LOG: "/dev/stdout"}, [{LOG: "/dev/stdout"}, {LOG: "/dev/stdout"}]),
        *(
            ({"numprocs": 2, LOG: path}, [{LOG: path}, {LOG: path}])
            for path in (
                "/dev/stderr",
                "/dev/fd/1",
                "/proc/self/fd/1",
                "/proc/1/fd/1",
                "/dev//null",
            )
        ),
        (
            {"numprocs": 2, LOG: "/dev/shm/a.log"},
            [{LOG: "/dev/shm/a.log"}, {LOG: "/dev/shm/a_01.log"}],
        ),
        (
            {LOG: "/l/a.log", ERR: "/l/b.log", "redirect_stderr": True},
            [{LOG: "/l/a.log", "redirect_stderr": "true"}],
        ),
    ],
    ids=[
        "one process",
        "both channels in one file",
        "both channels, one rotated",
        "both channels, none rotated",
        "two processes",
        "no suffix",
        "two processes, not rotated",
        "two processes, two files",
        "number already there",
        "automatic",
        "device",
        "stderr",
        "descriptor",
        "own descriptor",
        "first process's descriptor",
        "null",
        "file in memory",
        "redirected already",
    ],
)
def test_rotated_logs_are_separated(given, expected):
    result = [
        {option: text for option, text in section.options.items() if option != "command"}
        for section in sections_of(**given)
    ]
    assert result == expected


def test_scaling_from_one_process_changes_nothing_of_the_first():
    one = sections_of(numprocs=1, stdout_logfile="/l/a.log")
    assert sections_of(numprocs=2, stdout_logfile="/l/a.log")[0] == one[0]


@pytest.mark.parametrize("kind", ["eventlistener", "fcgi-program"])
def test_other_kinds_are_one_section_in_either_layout(kind):
    (section,) = sections.sections(
        "pool", {"command": "/bin/x", "numprocs": 3}, "processes", kind=kind
    )
    assert section.title == f"{kind}:pool"
    assert section.options["process_name"] == "%(program_name)s_%(process_num)02d"


def test_numprocs_layout_separates_rotated_logs_too():
    (section,) = sections_of(kind="numprocs", numprocs=2, stdout_logfile="/l/a.log")
    assert section.options["stdout_logfile"] == "/l/a_%(process_num)02d.log"


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ({LOG: "/l/a.log"}, {LOG: "/l/a.log"}, True),
        ({LOG: "/l/a.log"}, {ERR: "/l/a.log"}, True),
        ({LOG: "/l/a.log", SIZE: 0}, {LOG: "/l/a.log"}, True),
        ({LOG: "/l/a.log"}, {LOG: "/l/a.log", SIZE: 0}, True),
        ({LOG: "%(here)s/a.log"}, {LOG: "%(here)s/a.log"}, True),
        ({LOG: "/l/a.log", SIZE: 0}, {LOG: "/l/a.log", SIZE: 0}, False),
        ({LOG: "/l/a.log"}, {LOG: "/l/b.log"}, False),
        ({LOG: "/l/%(program_name)s"}, {LOG: "/l/%(program_name)s"}, False),
        ({LOG: "/l/%(group_name)s"}, {LOG: "/l/%(group_name)s"}, False),
        ({LOG: "AUTO"}, {LOG: "AUTO"}, False),
        ({LOG: "/dev/stdout"}, {LOG: "/dev/stdout"}, False),
        ({}, {}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["processes", "numprocs"])
def test_two_programs_with_one_log(one, other, refused, kind):
    both = sections_of("mail", kind, **one) + sections_of("news", kind, **other)
    if not refused:
        sections.check_shared_logs(both)
        return
    with pytest.raises(InvalidOption) as caught:
        sections.check_shared_logs(both)
    message = str(caught.value)
    assert message.startswith("programs.news.std")
    assert f"is a log of {both[0].group} too" in message
    assert "Give each its own file" in message


def test_the_processes_of_one_program_may_share_a_log_that_is_not_rotated():
    sections.check_shared_logs(
        sections_of(numprocs=3, stdout_logfile="/l/a.log", stdout_logfile_maxbytes=0)
    )


def test_the_articles_block_simply_works():
    result = sections.sections("myprocess", typed_program("myprocess", ARTICLE))
    assert [section.group for section in result] == [f"myprocess_{n:02d}" for n in range(12)]
    sections.check_shared_logs(result)
    assert result[11].options == {
        "command": "php /var/www/myprocess.php",
        "autostart": "true",
        "autorestart": "true",
        "directory": "/var/www",
        "redirect_stderr": "true",
        "stdout_logfile": "/var/log/myprocess_11.log",
        "stdout_logfile_maxbytes": "1MB",
    }


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("+%Y", "cannot expand"),
        ("%(nothing)s", "unknown expansion 'nothing'"),
        ("%(numprocs)d", "scaling would change every process"),
        ("%%(here)s", "which Supervisor replaces even so"),
        ("%(process_num)999999999d", "a width has two digits at most"),
        ("%(ENV_X).999999999s", "a width has two digits at most"),
    ],
)
def test_bad_expansions_in_the_environment(value, problem):
    with pytest.raises(InvalidOption) as caught:
        sections_of(environment_expanded={"A": value + " hunter2"})
    message = str(caught.value)
    assert message.startswith("programs.mail.environment_expanded.A: '(not shown)' ")
    assert problem in message
    assert "hunter2" not in message


def test_both_environments_become_one():
    first, second = sections_of(
        numprocs=2,
        environment={"B": "50%", "D": "x"},
        environment_expanded={"A": "%(process_num)02d", "C": "%(ENV_PATH)s:50%%"},
    )
    rest = 'B="50%%",C="%(ENV_PATH)s:50%%",D="x"'
    assert first.options["environment"] == f'A="00",{rest}'
    assert second.options["environment"] == f'A="01",{rest}'
    assert "environment_expanded" not in first.options


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("directory", "~/srv", ["'~'", "Write it from / on"]),
        ("stdout_logfile", "~/logs/x.log", ["'~'", "/var/log/gearman-worker/NAME.log"]),
        ("stderr_logfile", "~deploy/x.log", ["'~'"]),
        ("stdout_logfile", "/var/log/x/", ["is a directory", "Name a file in it"]),
        ("stdout_logfile", "/var/log/../x.log", ["holds '..'"]),
    ],
)
def test_other_paths_that_are_refused_by_name(option, value, words):
    with pytest.raises(InvalidOption) as caught:
        sections_of(**{option: value})
    for word in [f"programs.mail.{option}: {value!r} ", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", ["program", "eventlistener", "fcgi-program"])
def test_a_command_that_needs_a_shell_is_refused(kind):
    with pytest.raises(InvalidOption, match=r"command: .*runs no shell"):
        sections.sections("mail", {"command": "cd /srv && php x"}, kind=kind)
