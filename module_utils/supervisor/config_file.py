# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervisor's configuration text: quoting, rendering, reading back, masking. All pure."""

from __future__ import annotations

import configparser
import re

from ..failure import InvalidOption

MARK = "; Written by Ansible (Gearvisor)."
_HEADER = MARK + " Fleet: {fleet}. Changes made here are lost."
_FLEET = re.compile(re.escape(MARK) + r" Fleet: (\S+)\. ")
_FINGERPRINT = re.compile(r"^; Fingerprint of the deployed code: (\S+)$", re.MULTILINE)
# With its continuation lines, and as a user may have edited it by hand.
_ENVIRONMENT_LINE = re.compile(
    r"^([;#\s]*environment)[^\S\n]*[=:](.*(?:\n[^\S\n]+\S.*)*)", re.MULTILINE | re.IGNORECASE
)
_ENVIRONMENT_VALUE = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)=("[^"]*"|'[^']*')""")
_OUR_ENVIRONMENT = re.compile(f"{_ENVIRONMENT_VALUE.pattern}(,{_ENVIRONMENT_VALUE.pattern})*")


def quote_environment(option, values):
    """Return *values* as Supervisor's environment= text, exactly or not at all.

    Supervisor up to 4.3 splits the text with a non-POSIX shlex and strips
    quote characters from both ends; it has no escapes. So a value goes into
    double quotes if it can, into single ones if it must, and is refused with
    InvalidOption when neither gives back the same value.
    """
    for name, value in values.items():
        # Supervisor replaces this one in any position, before it reads "%%" as "%".
        if "%(here)s" in value:
            raise InvalidOption(
                f"{option}.{name}",
                "(not shown)",
                "holds %(here)s, which Supervisor replaces even in a literal",
                "Put it into a file that the program reads",
            )
    return ",".join(
        f"{name}={_quote(f'{option}.{name}', value).replace('%', '%%')}"
        for name, value in values.items()
    )


def quote_expanded(option, values):
    """Return *values*, in which Supervisor's expansions stay, as environment= text."""
    return ",".join(f"{name}={_quote(f'{option}.{name}', value)}" for name, value in values.items())


def environment_text(where, options):
    """Return environment= of a program's environment and environment_expanded, sorted by name."""
    literal = options.get("environment", {})
    expanded = options.get("environment_expanded", {})
    return ",".join(
        quote_environment(f"{where}.environment", {name: literal[name]})
        if name in literal
        else quote_expanded(f"{where}.environment_expanded", {name: expanded[name]})
        for name in sorted({**literal, **expanded})
    )


def _quote(option, value):
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]|\s[;#]", value):
        raise InvalidOption(
            option,
            "(not shown)",
            "holds a line break or another control character, or white space followed by ';' or '#', "
            "which Supervisor cannot represent",
            "Put it into a file that the program reads",
        )
    # A backslash in double quotes would change its meaning in Supervisor 4.4.
    if not re.search(r'["\\]', value) and not value.startswith("'") and not value.endswith("'"):
        return f'"{value}"'
    if "'" not in value and not value.startswith('"') and not value.endswith('"'):
        return f"'{value}'"
    raise InvalidOption(
        option,
        "(not shown)",
        "holds quotes or backslashes in a mix that Supervisor cannot represent",
        "Put it into a file that the program reads",
    )


def environment_values(text):
    """Return {name: value} of an environment= text that quote_environment made."""
    return {
        match.group(1): match.group(2)[1:-1].replace("%%", "%")
        for match in _ENVIRONMENT_VALUE.finditer(text)
    }


def option_text(option, value):
    """Return one typed option value as Supervisor writes it; *option* names it in errors."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return quote_environment(option, value)
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)


def render_file(fleet, sections, fingerprint=None):
    """Return the text of one program file.

    *sections* is {section name: {option: text}}, e.g. {"program:mail_00": {"command": "..."}}.
    """
    lines = [_HEADER.format(fleet=fleet)]
    if fingerprint:
        lines.append(f"; Fingerprint of the deployed code: {fingerprint}")
    for section, options in sections.items():
        lines += ["", f"[{section}]", *(f"{option}={text}" for option, text in options.items())]
    return "\n".join(lines) + "\n"


def fleet_of(text):
    """Return the fleet whose call wrote this file, or None for a file that Gearvisor did not write."""
    match = _FLEET.match(text)
    return match.group(1) if match else None


def fingerprint_of(text):
    """Return the fingerprint noted in a program file, or None."""
    match = _FINGERPRINT.search(text)
    return match.group(1) if match else None


def parse_sections(text):
    """Return {section: {option: text}} as Supervisor reads it.

    Raises configparser.Error on text that is not a configuration file.
    """
    parser = configparser.RawConfigParser(
        strict=False, comment_prefixes=(";", "#"), inline_comment_prefixes=(";", "#")
    )
    parser.read_string(text)
    return {section: dict(parser.items(section)) for section in parser.sections()}


def masked(text):
    """Return configuration text fit to be shown: environment names stay, values do not."""

    def hide(line):
        name, value = line.groups()
        ours = _OUR_ENVIRONMENT.fullmatch(value)
        return f"{name}=" + (_ENVIRONMENT_VALUE.sub(r'\1="***"', value) if ours else "***")

    return _ENVIRONMENT_LINE.sub(hide, text)
