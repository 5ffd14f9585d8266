"""Parses a method's docstring into title, equation and labelled sections, for the catalogue."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from textwrap import dedent

_LABEL = re.compile(r"([A-Z][a-z/ -]+):(?:\s+|$)")


@dataclass(frozen=True)
class MethodDoc:
    """The parts of a docstring that follows the project's template.

    Attributes:
        title:    the method's name.
        summary:  the first sentence after the name.
        equation: the indented formula, line by line; empty if there is none.
        sections: the text of every labelled section, in order. Blocks such as Args keep their lines.
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


def method_doc(kind: type) -> MethodDoc:
    """Parse the docstring of a class. It must follow the template.

    >>> from normbench import norms
    >>> group = method_doc(norms.entry("gn").layer)
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
    return MethodDoc(title.removesuffix("."), summary, dedent(equation), sections)


def _sections(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Label and text of each section. A label stands at the margin; lines without one are remarks."""
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
    """Text that begins beside its label becomes one line. A block below its label keeps its lines."""
    return " ".join(" ".join([first, *rest]).split()) if first else dedent("\n".join(rest)).strip("\n")
