"""A method's docstring read as a card: title, equation and labelled sections, for the catalogue."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from textwrap import dedent

_LABEL = re.compile(r"([A-Z][a-z/ -]+):(?:\s+|$)")


@dataclass(frozen=True)
class Card:
    """What a docstring after the house template says.

    Attributes:
        title:    the method's name.
        summary:  the first sentence after the name.
        equation: the indented formula, lines as they stand; empty where there is none.
        sections: the text of every labelled section, in order; lines of blocks such as Args as they stand.
    """

    title: str
    summary: str
    equation: str
    sections: dict[str, str]

    @property
    def arguments(self) -> dict[str, str]:
        """Meaning of every constructor argument."""
        found: dict[str, str] = {}
        name = ""
        for line in self.sections.get("Args", "").splitlines():
            if match := re.match(r"(\w+):\s+(.*)", line):
                name, text = match.groups()
                found[name] = text
            else:
                found[name] += " " + line.strip()
        return found


def card(kind: type) -> Card:
    """The card of a class whose docstring follows the template.

    >>> from normbench import norms
    >>> group = card(norms.entry("gn").layer)
    >>> group.title, group.summary
    ('Group normalization', 'statistics per image over groups of channels.')
    >>> group.sections["Reduces"]
    '(C/G, H, W) for each image and group.'
    """
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    title, _, summary = " ".join(paragraphs[0].split()).partition(": ")
    equation = "\n\n".join(takewhile(lambda text: text.startswith("    "), paragraphs[1:]))
    sections = dict(
        section for paragraph in paragraphs[1:] if not paragraph.startswith(" ")
        for section in _sections(paragraph.splitlines())
    )  # fmt: skip
    return Card(title.removesuffix("."), summary, dedent(equation), sections)


def _sections(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Label and text of what begins with a label at the margin; other lines at the margin are remarks."""
    label, first, rest = "", "", [""]
    for line in [*lines, "End:"]:
        match = _LABEL.match(line)
        if not match:
            rest.append(line)
            continue
        if label or any(rest):
            yield label or "Remarks", _text(first, rest)
        label, first, rest = match[1], line[match.end() :], []


def _text(first: str, rest: list[str]) -> str:
    """Running text on one line; a block, which begins below its label, line by line."""
    return " ".join(" ".join([first, *rest]).split()) if first else dedent("\n".join(rest)).strip("\n")
