from __future__ import annotations

import random

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    config_file,
    sections,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.options import (
    typed_program,
)

CASES = 10_000
# Everything that configparser, the % operator or shlex treats in a special way.
HOSTILE = list("ab1 \t\"'\\%;#=,:$`?!&|(){}[]<>*~@^-+./") + [
    "é",
    "語",
    "\u00a0",
    "\u2028",
    "%(",
    ")s",
    "%(here)s",
]


@pytest.mark.supervisords("all")
def test_environments_round_trip_through_supervisors_parser_or_are_refused(read_by_supervisor):
    """10,000 environments of hostile characters: exact, or refused, and never shown."""
    chance = random.Random(20130214)
    accepted, refused = {}, 0
    for number in range(CASES):
        environment = {
            name: "".join(chance.choices(HOSTILE, k=chance.randrange(6)))
            + "Hunter2"
            + "".join(chance.choices(HOSTILE, k=chance.randrange(6)))
            for name in chance.sample(["A", "_b", "PATH_2"], k=chance.randrange(1, 4))
        }
        try:
            line = config_file.quote_environment("programs.x.environment", environment)
        except InvalidOption as error:
            assert "Hunter2" not in str(error)
            assert "Put it into a file" in str(error)
            refused += 1
            continue
        section = f"program:x_{number}"
        accepted[section] = environment, {"command": "/bin/true", "environment": line}
    content = config_file.render_file("f", {section: case[1] for section, case in accepted.items()})
    assert read_by_supervisor(content) == {section: case[0] for section, case in accepted.items()}
    assert config_file.parse_sections(content) == {
        section: case[1] for section, case in accepted.items()
    }
    assert "Hunter2" not in config_file.masked(content)
    for environment, options in accepted.values():
        assert config_file.environment_values(options["environment"]) == environment
    # Both sides really were tried.
    assert len(accepted) > CASES / 2
    assert refused > CASES / 10


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", '""'),
        ("foo bar", '"foo bar"'),
        ("http://x/y?z=1", '"http://x/y?z=1"'),
        ("a@b", '"a@b"'),
        ("a,B=c", '"a,B=c"'),
        ("it's", '"it\'s"'),
        ("100%", '"100%%"'),
        ("%(ENV_HOME)s", '"%%(ENV_HOME)s"'),
        ("a;b#c", '"a;b#c"'),
        ('{"a": 1}', "'{\"a\": 1}'"),
        ("C:\\x", "'C:\\x'"),
        ("#x", '"#x"'),
    ],
)
def test_values_that_supervisor_can_carry(value, quoted, read_by_supervisor):
    assert config_file.quote_environment("o", {"A": value}) == f"A={quoted}"
    content = config_file.render_file("f", {"program:x": {"environment": f"A={quoted}"}})
    assert read_by_supervisor(content) == {"program:x": {"A": value}}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("a\nb", "line break"),
        ("a\rb", "line break"),
        ("a\0b", "line break"),
        ("a %(here)s", "%(here)s, which Supervisor replaces"),
        ("a ;b", "white space followed by ';' or '#'"),
        ("a\t#b", "white space followed by ';' or '#'"),
        ("""a"b'c""", "quotes or backslashes"),
        ("'quoted'", "quotes or backslashes"),
        ('"quoted"', "quotes or backslashes"),
        ("it's a \\", "quotes or backslashes"),
    ],
)
def test_values_that_supervisor_cannot_carry(value, problem):
    with pytest.raises(InvalidOption) as caught:
        config_file.quote_environment("programs.mail.environment", {"A": value})
    message = str(caught.value)
    assert message.startswith("programs.mail.environment.A: '(not shown)' ")
    assert problem in message
    assert "Put it into a file that the program reads" in message


@pytest.mark.parametrize(
    ("value", "written"),
    [(True, "true"), (False, "false"), (12, "12"), ([0, 2], "0,2"), ([], ""), ("x y", "x y")],
    ids=str,
)
def test_option_text(value, written):
    assert config_file.option_text("o", value) == written


def test_rendered_file_reads_back_as_the_same_sections():
    program = typed_program(
        "mail",
        {
            "command": "/bin/x --color=#fff a;b 100%%",
            "numprocs": 3,
            "exitcodes": [],
            "environment": {"A": "x=y, z", "B": '{"k": "v"}'},
        },
    )
    rendered = {section.title: section.options for section in sections.sections("mail", program)}
    content = config_file.render_file("shop", rendered, "abc123")
    assert config_file.parse_sections(content) == rendered
    assert config_file.fleet_of(content) == "shop"
    assert config_file.fingerprint_of(content) == "abc123"
    assert content.splitlines()[0] == (
        "; Written by Ansible (Gearvisor). Fleet: shop. Changes made here are lost."
    )


def test_file_without_programs_or_fingerprint():
    content = config_file.render_file("shop", {})
    assert config_file.parse_sections(content) == {}
    assert config_file.fleet_of(content) == "shop"
    assert config_file.fingerprint_of(content) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[program:x]\ncommand=/bin/true\n",
        "; Written by Ansible.\n[program:x]\n",
        "\n; Written by Ansible (Gearvisor). Fleet: shop. Changes made here are lost.\n",
        "; Written by Ansible (Gearvisor).\n",
    ],
    ids=["empty", "no header", "other header", "header further down", "no fleet"],
)
def test_somebody_elses_file_has_no_fleet(content):
    assert config_file.fleet_of(content) is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('environment=A="s3cret"', 'environment=A="***"'),
        ('environment=A=\'s3"cret\',B="s3cret"', 'environment=A="***",B="***"'),
        ("environment=A=\"B='s3cret'\"", 'environment=A="***"'),
        # As a user may have edited it by hand.
        ('environment = A="s3cret"', "environment=***"),
        ("environment=A=s3cret", "environment=***"),
        ("environment: A=s3cret", "environment=***"),
        ("Environment=A=s3cret", "Environment=***"),
        ('environment=A="1",\n  B="s3cret"', "environment=***"),
        ('environment=\n\tA="s3cret"', "environment=***"),
        ("; environment=A=s3cret", "; environment=***"),
        ('environment=A="x" s3cret', "environment=***"),
    ],
)
def test_masked_shows_no_environment_value(line, shown):
    content = f"[program:x]\ncommand=/bin/true\n{line}\nuser=root\n"
    assert config_file.masked(content) == f"[program:x]\ncommand=/bin/true\n{shown}\nuser=root\n"


def test_masked_leaves_everything_else():
    content = '[program:x]\ncommand=/bin/x environment="a"\nuser=root\n\n[program:y]\ncommand=a=b\n'
    assert config_file.masked(content) == content
