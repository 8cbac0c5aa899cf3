"""The code on README's and docs' pages: fenced blocks, and those that four spaces make."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "python/*.md", "php/*.md", "examples/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n|\n(?= {4}))+)")


def fenced(path):
    """Return [(language, text, line)]."""
    text = path.read_text()
    return [
        (match[1], match[2], text[: match.start()].count("\n") + 1)
        for match in _FENCED.finditer(text)
    ]


def blocks(path):
    """Return [(text, line)] of all code."""
    text = path.read_text()
    rest = _FENCED.sub(lambda match: re.sub(r"[^\n]", "", match[0]), text)
    indented = [
        (textwrap.dedent(match[1]), rest[: match.start()].count("\n") + 1)
        for match in _INDENTED.finditer(rest)
    ]
    return [(code, line) for _language, code, line in fenced(path)] + indented


def command_lines(path):
    """Return [(command line, line)] of shell code, without prompts, pipes in front and comments."""
    found = []
    for code, line in blocks(path):
        for number, each in enumerate(re.sub(r"\\\n\s*", "", code).splitlines()):
            command = re.sub(r"^\$ |\s+#.*$", "", each.strip())
            found.append((command.rpartition(" | ")[2], line + number))
    return found
