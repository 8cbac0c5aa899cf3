from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.options import (
    BOUNDS,
    KINDS,
    OPTIONS,
    OURS,
    SECRETS,
    typed_options,
    typed_program,
    typed_programs,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.values import (
    byte_count,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.wrong_names import (
    RIGHT_NAMES,
    WITHOUT_EQUIVALENT,
)

# Every kind of option: what is accepted and what becomes of it.
ACCEPTED = [
    ("command", "/bin/sleep 60", "/bin/sleep 60"),
    ("command", "  /bin/sleep 60 ", "/bin/sleep 60"),
    ("command", "/bin/x a;b --color=#fff", "/bin/x a;b --color=#fff"),
    ("user", 1000, "1000"),
    ("numprocs", 12, 12),
    ("numprocs", "12", 12),
    ("numprocs", 0, 0),
    ("priority", -1, -1),
    ("priority", "-1", -1),
    ("autostart", True, True),
    ("autostart", "No", False),
    ("autostart", "on", True),
    ("autorestart", True, True),
    ("autorestart", "false", False),
    ("autorestart", "Unexpected", "unexpected"),
    ("exitcodes", 0, [0]),
    ("exitcodes", "0,2", [0, 2]),
    ("exitcodes", [0, "255"], [0, 255]),
    ("exitcodes", "", []),
    ("stopsignal", "TERM", "TERM"),
    ("stopsignal", "sigusr2", "USR2"),
    ("stopsignal", 15, "15"),
    ("umask", "027", "027"),
    ("umask", "22", "22"),
    ("stdout_logfile_maxbytes", 0, "0"),
    ("stdout_logfile_maxbytes", "1MB", "1MB"),
    ("stdout_logfile_maxbytes", "10 mb", "10 mb"),
    (
        "environment",
        {"B": True, "A": 1, "C": None, "D": "x"},
        {"A": "1", "B": "true", "C": "", "D": "x"},
    ),
    ("environment_expanded", {"A": "%(here)s"}, {"A": "%(here)s"}),
]

# What is refused, and a part of the problem and of the way out that the user reads.
REFUSED = [
    ("user", "a b", "not a user's name", "/etc/passwd"),
    ("environment_expanded", {"A-B": "x"}, "not a valid name of an environment variable", "digits"),
    ("command", "/bin/x\n[program:other]", "line break", "on one line"),
    ("command", "/bin/x\r", "line break", "on one line"),
    ("command", "/bin/x \0", "line break", "on one line"),
    ("command", "/bin/x a ; b", "begins a comment", "Leave out the space"),
    ("command", "/bin/x '--color #fff'", "begins a comment", "script"),
    ("command", "/bin/x\t# y", "begins a comment", "script"),
    ("command", ["/bin/x", "y"], "not text", "one quoted string"),
    ("command", True, "not text", "one quoted string"),
    ("directory", "", "is empty", "leave it out"),
    ("user", "  ", "is empty", "leave it out"),
    ("numprocs", "many", "not a whole number", "digits only"),
    ("numprocs", True, "not a whole number", "digits only"),
    ("numprocs", 1.5, "not a whole number", "digits only"),
    ("numprocs", -1, "below 0", "Use 0 to"),
    ("stopwaitsecs", "1m", "not a whole number", "without a unit"),
    ("startsecs", "-1", "below 0", "Use 0 to"),
    ("priority", "high", "not a whole number", "digits only"),
    ("autostart", "sometimes", "neither true nor false", "true or false"),
    ("autostart", 2, "neither true nor false", "true or false"),
    ("autorestart", "always", "not one of Supervisor's three", "true, false or unexpected"),
    ("exitcodes", "0,256", "above 255", "0 to 255"),
    ("exitcodes", "zero", "not a whole number", "0 to 255"),
    ("exitcodes", [-1], "not a whole number", "0 to 255"),
    ("stopsignal", "TERMINATE", "not a signal", "Use TERM"),
    ("stopsignal", 99, "not a signal", "Use TERM"),
    ("stopsignal", "²", "not a signal", "Use TERM"),
    ("umask", 23, "not a quoted octal mode", "umask: '027'"),
    ("umask", "999", "not a quoted octal mode", "Quote it"),
    ("stdout_logfile_maxbytes", "10M", "not a size", "KB, MB or GB"),
    ("stdout_logfile_maxbytes", True, "not a size", "KB, MB or GB"),
    (
        "environment",
        {"A-B": "x"},
        "not a valid name of an environment variable",
        "letters, digits and '_'",
    ),
    (
        "environment",
        {"1A": "x"},
        "not a valid name of an environment variable",
        "letters, digits and '_'",
    ),
]


def ids(cases):
    return [f"{option}={value!r}" for option, value, *_rest in cases]


@pytest.mark.parametrize(("option", "value", "typed"), ACCEPTED, ids=ids(ACCEPTED))
def test_accepted_value(option, value, typed):
    program = typed_program("mail", {"command": "/bin/true", option: value})
    assert program[option] == typed
    assert type(program[option]) is type(typed)


@pytest.mark.parametrize(("option", "value", "problem", "way_out"), REFUSED, ids=ids(REFUSED))
def test_refused_value(option, value, problem, way_out):
    with pytest.raises(InvalidOption) as caught:
        typed_program("mail", {"command": "/bin/true", option: value})
    message = str(caught.value)
    assert message.startswith(f"programs.mail.{option}: ")
    shown = next(iter(value)) if isinstance(value, dict) else value
    if not (isinstance(value, list) or (option == "exitcodes" and "," not in str(value))):
        assert repr(shown) in message
    assert problem in message
    assert way_out in message
    assert caught.value.details == {"option": f"programs.mail.{option}"}


def test_every_kind_has_a_good_and_a_bad_value():
    kinds = {KINDS[option] for option in OPTIONS["program"]}
    assert {KINDS[option] for option, *_rest in ACCEPTED} == kinds
    assert {KINDS[option] for option, *_rest in REFUSED} == kinds


LISTENER = {"command": "/bin/x", "events": ["TICK_60"]}
FCGI = {"command": "/bin/x", "socket": "unix:///run/x.sock"}


@pytest.mark.parametrize(
    ("kind", "given", "typed"),
    [
        ("eventlistener", {"events": "TICK_5, TICK_60"}, {"events": ["TICK_5", "TICK_60"]}),
        ("eventlistener", {"buffer_size": "100"}, {"buffer_size": 100}),
        ("fcgi-program", {"socket": "tcp://localhost:9000"}, {"socket": "tcp://localhost:9000"}),
        ("fcgi-program", {"socket_mode": "0660"}, {"socket_mode": "0660"}),
        ("fcgi-program", {"redirect_stderr": True}, {"redirect_stderr": True}),
    ],
)
def test_options_of_the_other_kinds(kind, given, typed):
    base = {"eventlistener": LISTENER, "fcgi-program": FCGI}[kind]
    result = typed_program("x", {**base, **given}, kind=kind)
    assert {option: result[option] for option in typed} == typed


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("eventlistener", {"command": "/bin/x"}, ["event_listeners.x.events", "List"]),
        ("eventlistener", {**LISTENER, "events": "tick 5"}, ["events", "'tick 5'", "TICK_60"]),
        ("eventlistener", {**LISTENER, "buffer_size": 0}, ["buffer_size", "0", "Use 1 to"]),
        (
            "eventlistener",
            {**LISTENER, "redirect_stderr": True},
            ["event_listeners.x", "redirect_stderr", "not an option"],
        ),
        ("fcgi-program", {"command": "/bin/x"}, ["fcgi_programs.x.socket", "unix:///run"]),
        ("fcgi-program", {**FCGI, "socket": "/run/x.sock"}, ["socket", "'/run/x.sock'", "tcp://"]),
        (
            "fcgi-program",
            {**FCGI, "events": "TICK_5"},
            ["fcgi_programs.x", "events", "not an option"],
        ),
        ("program", {"command": "/bin/x", "socket": "tcp://h:1"}, ["programs.x", "socket"]),
    ],
)
def test_bad_options_of_the_other_kinds(kind, given, words):
    with pytest.raises(InvalidOption) as caught:
        typed_program("x", given, kind=kind)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("autorestat", "Did you mean 'autorestart'?"),
        ("numproc", "Did you mean 'numprocs'?"),
        ("stopwait_secs", "Did you mean 'stopwaitsecs'?"),
        ("depends_on", "The options are: command, process_name, numprocs"),
        ("workers_count", "Did you mean 'numprocs'?"),
        ("log_stdout", "Did you mean 'stdout_logfile'?"),
        ("mem_limit", "Use the worker's own, such as --max-rss"),
        ("after", "waits for none of them"),
        ("program_name", "in a mapping of programs the key is the name"),
    ],
)
def test_unknown_option_is_refused_with_a_hint(option, hint):
    with pytest.raises(InvalidOption) as caught:
        typed_program("mail", {"command": "/bin/true", option: "x"})
    assert f"programs.mail: '{option}' is not an option of a Supervisor program" in str(
        caught.value
    )
    assert hint in str(caught.value)


def test_a_suggestion_is_only_made_when_one_is_close():
    with pytest.raises(InvalidOption) as caught:
        typed_program("mail", {"command": "/bin/true", "zzz": "x"})
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"command": "/bin/true", "enviroment": {"PASSWORD": "hunter2"}},
        {"command": "/bin/true", "environment": "PASSWORD=hunter2"},
        {"command": "/bin/true", "environment": [{"PASSWORD": "hunter2"}]},
        [{"environment": {"PASSWORD": "hunter2"}}],
        "environment: {PASSWORD: hunter2}",
    ],
    ids=["misspelt", "text", "list", "program as a list", "program as text"],
)
def test_an_error_never_shows_an_environment_value(given):
    with pytest.raises(InvalidOption) as caught:
        typed_program("mail", given)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.details)


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "../x", "a b", "a:b", "a]b", "-a", ".hidden", "_x", "mail\n", "größe", "a%b"],
)
def test_unusable_program_name(name):
    with pytest.raises(InvalidOption) as caught:
        typed_program(name, {"command": "/bin/true"})
    message = str(caught.value)
    assert message.startswith(f"programs: {name!r} is not a usable program name")
    assert "Use letters, digits" in message


@pytest.mark.parametrize("name", ["mail", "7", "a.b", "A-b_c"])
def test_usable_program_name(name):
    assert typed_program(name, {"command": "/bin/true"}) == {"command": "/bin/true"}


@pytest.mark.parametrize(
    "given", [{}, {"command": ""}, {"command": "  "}, {"command": None}, {"user": "root"}]
)
def test_a_program_without_a_command_is_refused(given):
    with pytest.raises(InvalidOption, match=r"^programs\.mail\.command: '' is missing\. Give"):
        typed_program("mail", given)


def test_a_program_with_nothing_below_it_is_refused():
    with pytest.raises(InvalidOption, match=r"^programs\.mail: None is not a mapping .*'command"):
        typed_program("mail", None)


def test_none_means_not_given():
    given = {"command": "/bin/true", "user": None, "environment": None}
    assert typed_program("mail", given) == {"command": "/bin/true"}


def test_options_come_in_one_order_whatever_the_user_writes():
    one = typed_program("mail", {"user": "root", "numprocs": 2, "command": "/bin/true"})
    other = typed_program("mail", {"command": "/bin/true", "user": "root", "numprocs": 2})
    assert list(one) == list(other) == ["command", "numprocs", "user"]


@pytest.mark.parametrize(
    ("defaults", "own", "expected"),
    [
        ({"user": "a", "startsecs": 5}, {"user": "b"}, {"user": "b", "startsecs": 5}),
        ({"user": "a"}, {"user": None}, {"user": "a"}),
        (
            {"environment": {"A": "1", "B": "1"}},
            {"environment": {"B": "2"}},
            {"environment": {"A": "1", "B": "2"}},
        ),
        (
            {"redirect_stderr": True},
            {"stderr_logfile": "/e.log"},
            {"stderr_logfile": "/e.log"},
        ),
        (
            {"redirect_stderr": True},
            {"stderr_logfile": "/e.log", "redirect_stderr": True},
            {"stderr_logfile": "/e.log", "redirect_stderr": True},
        ),
        ({"redirect_stderr": True}, {}, {"redirect_stderr": True}),
    ],
    ids=[
        "own wins",
        "none is not own",
        "environment is merged",
        "own error log wins over redirect",
        "unless redirected itself",
        "redirect",
    ],
)
def test_defaults(defaults, own, expected):
    program = typed_program(
        "mail", {"command": "/bin/true", **own}, typed_options("defaults", defaults)
    )
    assert program == {"command": "/bin/true", **expected}


def test_a_bad_default_is_named_as_a_default():
    with pytest.raises(InvalidOption, match=r"^defaults\.numprocs: 'x' is not a whole number"):
        typed_options("defaults", {"numprocs": "x"})


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("512", 512), ("1KB", 1024), ("1 mb", 1024**2), ("2GB", 2 * 1024**3)],
)
def test_byte_count(text, count):
    assert byte_count(text) == count


RELEASE = {"link": "/srv/app/current", "target": "/srv/app/releases/2"}


@pytest.mark.parametrize(
    ("option", "value", "typed"),
    [
        ("functions", ["a", "b c"], ["a", "b c"]),
        ("functions", "a, b", ["a", "b"]),
        ("release", RELEASE, {**RELEASE, "move": "last"}),
        ("release", {**RELEASE, "move": "first"}, {**RELEASE, "move": "first"}),
        ("adopt", "yes", True),
    ],
)
def test_keys_that_are_not_supervisors(option, value, typed):
    assert typed_program("mail", {"command": "/bin/true", option: value})[option] == typed


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("functions", ["a", ""], "empty name"),
        ("release", "/srv/app/releases/2", "does not name a link and a target"),
        ("release", {"link": "/srv/app/current"}, "does not name a link and a target"),
        ("release", {**RELEASE, "keep": 3}, "is not a key of a release"),
        ("release", {**RELEASE, "target": "releases/2"}, "is not a plain absolute path"),
        ("release", {**RELEASE, "target": "/srv/app/"}, "is not a plain absolute path"),
        ("release", {**RELEASE, "target": "/srv/a b"}, "is not a plain absolute path"),
        ("release", {**RELEASE, "link": RELEASE["target"]}, "is the link itself"),
        ("release", {**RELEASE, "move": "never"}, "is unknown"),
        ("adopt", "perhaps", "neither true nor false"),
    ],
)
def test_keys_that_are_not_supervisors_are_checked(option, value, problem):
    with pytest.raises(InvalidOption, match=problem):
        typed_program("mail", {"command": "/bin/true", option: value})


def test_they_belong_to_programs_only():
    with pytest.raises(InvalidOption, match="'functions'"):
        typed_program("mail", {"command": "/bin/true", "functions": "a"}, kind="fcgi-program")


@pytest.mark.parametrize("option", sorted(BOUNDS))
def test_every_number_has_a_bound(option):
    kind = next(kind for kind in OPTIONS if option in OPTIONS[kind])
    lowest, highest, why = BOUNDS[option]
    for value in (highest + 1, str(highest + 1), 2**63, "9" * 400):
        with pytest.raises(InvalidOption) as caught:
            typed_options("programs.x", {option: value}, kind)
        assert f"programs.x.{option}: " in str(caught.value)
    assert why in str(caught.value) or "is not a" in str(caught.value)
    assert typed_options("programs.x", {option: highest}, kind)
    if lowest:
        with pytest.raises(InvalidOption, match="is below"):
            typed_options("programs.x", {option: lowest - 1}, kind)


def test_numbers_and_sizes_without_a_bound_do_not_exist():
    assert set(BOUNDS) == {option for option, kind in KINDS.items() if kind in ("number", "bytes")}


@pytest.mark.parametrize("option", [o for o, kind in KINDS.items() if kind not in SECRETS])
@pytest.mark.parametrize("bad", ["/a\0b", "/a\x1bb", "/a\ud800b", "/" + "a" * 200_000])
def test_no_text_holds_what_a_file_or_a_program_cannot_take(option, bad):
    kind = next(kind for kind in OPTIONS if option in OPTIONS[kind])
    with pytest.raises(InvalidOption, match=rf"^programs\.x\.{option}: ") as caught:
        typed_options("programs.x", {option: bad}, kind)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), 1.5, "1e3", "٣", "²", [], {}, "0x1"]
)
def test_what_only_looks_like_a_number(number):
    with pytest.raises(InvalidOption, match=r"^programs\.x\.numprocs: "):
        typed_options("programs.x", {"numprocs": number})


@pytest.mark.parametrize(
    ("value", "typed"),
    [(12.0, 12), ("12.0", 12), (" 3 ", 3)],
    ids=["as Jinja divides", "as text", "blanks"],
)
def test_whole_numbers_in_other_forms(value, typed):
    assert typed_options("p", {"numprocs": value}) == {"numprocs": typed}


# As Supervisor 4.2.5 and 4.3.0 read them (datatypes.boolean), and as Ansible does.
@pytest.mark.parametrize("word", [1, "1", "on", "ON", "yes", "True", "y", "t", 1.0, " true "])
def test_words_for_true(word):
    assert typed_options("p", {"stdout_events_enabled": word}) == {"stdout_events_enabled": True}


@pytest.mark.parametrize("word", [0, "0", "off", "No", "FALSE", "n", "f", 0.0])
def test_words_for_false(word):
    assert typed_options("p", {"autorestart": word}) == {"autorestart": False}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("count", "numprocs"),
        ("instances", "numprocs"),
        ("cmd", "command"),
        ("env", "environment"),
        ("cwd", "directory"),
        ("working-directory", "directory"),
        ("WorkingDir", "directory"),
        ("logfile", "stdout_logfile"),
        ("username", "user"),
        ("restart", "autorestart"),
        ("timeout", "stopwaitsecs"),
    ],
)
def test_names_of_other_tools(wrong, right):
    with pytest.raises(InvalidOption, match=f"Did you mean '{right}'"):
        typed_options("programs.x", {wrong: "x"})


@pytest.mark.parametrize("name", ["group", "state", "depends_on", "memory_limit", "cron"])
def test_what_supervisor_does_not_have_is_explained(name):
    with pytest.raises(InvalidOption) as caught:
        typed_options("programs.x", {name: "x"})
    assert WITHOUT_EQUIVALENT[name.replace("_", "")] in str(caught.value)


def test_the_right_names_exist():
    known = {*KINDS, *OURS}
    assert set(RIGHT_NAMES.values()) <= known
    assert not {name.replace("_", "") for name in known} & {*RIGHT_NAMES, *WITHOUT_EQUIVALENT}


MAIL = {"command": "/bin/true", "numprocs": 2}
OF_ALL_KINDS = {"event_listeners": {}, "fcgi_programs": {}}


@pytest.mark.parametrize(
    "programs",
    [
        {"mail": MAIL},
        [{"name": "mail", **MAIL}],
        '{"mail": {"command": "/bin/true", "numprocs": 2}}',
        '[{"name": "mail", "command": "/bin/true", "numprocs": 2}]',
    ],
    ids=["mapping", "list", "mapping as JSON", "list as JSON"],
)
def test_programs_come_as_a_mapping_or_as_a_list(programs):
    typed = typed_programs({"programs": programs, **OF_ALL_KINDS})
    assert typed == {"mail": ("program", MAIL)}


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ("mail=hunter2", ["neither a mapping", "- name:"]),
        (7, ["neither a mapping"]),
        ([MAIL], ["number 1 of the list", "has no name"]),
        (["hunter2"], ["has no name"]),
        ([{"name": "a", **MAIL}, {"name": "a", **MAIL}], ["two programs of the list"]),
        ({"mail": [MAIL]}, ["programs.mail", "not a mapping of options"]),
        ({f"p{n}": {**MAIL, "numprocs": 2000} for n in range(3)}, ["6000 is the sum", "5000"]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_programs_of_another_shape_are_explained(programs, words):
    with pytest.raises(InvalidOption) as caught:
        typed_programs({"programs": programs, **OF_ALL_KINDS})
    assert "hunter2" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_of_one_variable_the_programs_own_counts():
    defaults = typed_options(
        "defaults", {"environment": {"A": "1", "B": "1"}, "environment_expanded": {"C": "%%"}}
    )
    own = {"environment": {"C": "2"}, "environment_expanded": {"A": "%(here)s"}}
    program = typed_program("x", {"command": "/bin/true", **own}, defaults)
    assert program["environment"] == {"B": "1", "C": "2"}
    assert program["environment_expanded"] == {"A": "%(here)s"}
    with pytest.raises(InvalidOption, match=r"environment_expanded: 'A' is in environment, too"):
        typed_program(
            "x",
            {"command": "/x", "environment": {"A": "1"}, "environment_expanded": {"A": "1"}},
        )


@pytest.mark.parametrize(
    ("option", "value", "typed"),
    [
        ("fingerprint", "/srv/app", ["/srv/app"]),
        ("fingerprint", ["/srv/app", "/srv/b"], ["/srv/app", "/srv/b"]),
        ("fingerprint_exclude", ["*.log", "storage/*"], ["*.log", "storage/*"]),
        ("fingerprint_exclude", "*.log", ["*.log"]),
    ],
)
def test_fingerprint_of_a_program(option, value, typed):
    assert typed_options("p", {option: value}) == {option: typed}


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("fingerprint", "srv", "not an absolute path"),
        ("fingerprint", ["/a\0"], "control character|line break"),
        ("fingerprint", ["/a"] * 1001, "longer than 1000"),
        ("fingerprint_exclude", [""], "empty pattern"),
        ("functions", ["x" * 513], "characters long"),
        ("release", {**RELEASE, "target": "/srv/%(x)s"}, "plain absolute path"),
    ],
)
def test_bad_keys_of_ours(option, value, problem):
    with pytest.raises(InvalidOption, match=problem):
        typed_options("p", {option: value})
