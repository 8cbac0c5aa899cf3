# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of each kind of YAML value, and that Supervisor gets just that."""

import datetime
import json

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import environment


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.10", "1.10"),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (None, ""),
        (0, "0"),
        (-12, "-12"),
        ([], "[]"),
        ({}, "{}"),
        (["a", 1, None, True, 0.5], '["a", 1, null, true, 0.5]'),
        ({"a": {"b": ["\u00e9"]}}, '{"a": {"b": ["\u00e9"]}}'),
        ("+%Y", "+%Y"),
        ("100%", "100%"),
        ("%s", "%s"),
        ("%(levelname)s %(message)s", "%(levelname)s %(message)s"),
        ("%(x)s", "%(x)s"),
    ],
)
def test_each_kind_of_value(value, text):
    assert environment.literal("e", {"A": value}) == {"A": text}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.1, ["number with a point", "in quotes", "| string"]),
        (float("nan"), ["number with a point"]),
        (datetime.date(2026, 1, 2), ["of type date", "in quotes"]),
        (b"x", ["of type bytes"]),
        ({"a": float("inf")}, ["JSON"]),
        ({"a": datetime.date(2026, 1, 2)}, ["JSON"]),
        ("a\0b", ["line break"]),
        ("a\x1bb", ["control character"]),
        ("a\ud800b", ["control character or half of a surrogate"]),
        (["\ud800"], ["half of a surrogate"]),
        ("x" * 131072, ["characters long", "a file that the program reads"]),
        (10**5000, ["too long a number"]),
    ],
    ids=lambda value: str(type(value)),
)
def test_what_is_refused(value, words):
    with pytest.raises(InvalidOption) as caught:
        environment.literal("programs.x.environment", {"A": value})
    assert str(caught.value).startswith("programs.x.environment.A: '(not shown)' ")
    for word in words:
        assert word in str(caught.value)


def test_a_mapping_that_contains_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(InvalidOption, match="JSON"):
        environment.literal("e", {"A": value})


def test_there_is_an_end_to_the_number_of_variables():
    with pytest.raises(InvalidOption, match="1001 variables"):
        environment.literal("e", {f"A{n}": "" for n in range(1001)})


@pytest.mark.parametrize(
    "value",
    [
        "/venv/bin:%(ENV_PATH)s",
        "%(process_num)02d",
        "%(host_node_name)s",
        "%(here)s",
        "%%(program_name)s",
        "%(procces_num)d",
        "%(PROGRAM_NAME)s",
        "%(message)s %(process_num)d",
        {"a": ["%(ENV_HOME)s"]},
    ],
    ids=str,
)
def test_what_looks_like_an_expansion_is_refused_with_the_way_out(value):
    with pytest.raises(InvalidOption) as caught:
        environment.literal("programs.x.environment", {"A": value})
    assert "Move it to environment_expanded" in str(caught.value)
    assert environment.expanded("e", {"A": value})


@pytest.mark.parametrize(
    "value",
    [
        {"it's": 'a ;b #c \\ "quoted" \n \t'},
        ["'", '"', "\\", ";", "#", "%", "%s", " ; x", "\x7f", "\u2028"],
        '{"a": "it\'s"}',
    ],
    ids=["mapping", "list", "text"],
)
def test_any_json_can_be_carried(value, read_by_supervisor):
    from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import config_file

    if isinstance(value, str):
        value = json.loads(value)
    values = environment.literal("e", {"A": value})
    line = config_file.quote_environment("e", values)
    content = config_file.render_file("f", {"program:x": {"environment": line}})
    assert json.loads(read_by_supervisor(content)["program:x"]["A"]) == value
