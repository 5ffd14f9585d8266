"""docs/troubleshooting.md quotes messages that the program prints, and says of each what to do."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTES = [line[2:].strip() for line in TEXT.splitlines() if line.startswith("> ")]
#: Stands in a text of the source for a value that is put in.
VALUE = "\0"


@cache
def texts() -> str:
    """All texts of the source, one a line, with VALUE in place of values."""
    found = []
    for file in sorted((ROOT / "src" / "normbench").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(text.replace("\n", " ") for text in found)


def occurs(quote: str) -> bool:
    """Whether a text of the source is like a quoted message: `…` stands for a value or for its rest."""
    pieces = [re.escape(piece.strip(" ")) for piece in quote.strip("… ").split("…")]
    return re.search("[^\n]*".join(pieces), texts()) is not None


@pytest.mark.parametrize("quote", QUOTES)
def test_every_quoted_message_stands_in_the_source(quote):
    fixed = re.sub(r"[^a-z]", "", quote.replace("…", ""))
    assert len(fixed) >= 6, "too little of the message is fixed to find it"
    assert occurs(quote), quote


def test_a_message_that_nobody_prints_would_be_found():
    assert not occurs("its worker process fainted (exit code …)")


def test_every_message_comes_with_what_to_do():
    for paragraph in re.split(r"\n(?=## )", TEXT)[1:]:
        entries = re.split(r"\n\n(?!> )", paragraph)
        told = [entry for entry in entries if "*Do*:" in entry]
        assert told, paragraph.splitlines()[0]
        for before, after in zip(paragraph.split("\n\n"), paragraph.split("\n\n")[1:], strict=False):
            if before.startswith("> "):
                assert after.startswith(("> ", "*Looks like*:")), before
    assert TEXT.count("*Looks like*:") == TEXT.count("*Do*:")
