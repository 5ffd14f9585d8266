"""Code blocks of README.md and docs/: where they stand, their language, and how they are tested.

A shell block has the language `sh` or none. A comment on the line above it says how it is run:

    <!-- slow -->              as a shell script in an empty folder, by the slow tests
    <!-- not run: REASON -->   never as a whole; its `normbench` lines are planned, or their words checked
    nothing                    line by line in this process: every line must be a `normbench` command
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Pages that people write. docs/NORMS.md is made from docstrings; the log and decisions are history.
PAGES = [
    ROOT / "README.md",
    *sorted(
        page
        for page in (ROOT / "docs").rglob("*.md")
        if page.name not in ("NORMS.md", "LOG.md") and page.parent.name != "decisions"
    ),
]
SHELL = ("", "sh")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.S | re.M
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    line: of its fence.
    mark: the text of the comment above it.
    """

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        """Page and line, such as docs/index.md:25."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of its `normbench` lines, without the word normbench; `\\` at an end joins lines."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("normbench ")]

    @property
    def whole(self) -> bool:
        """Whether every line is a `normbench` command, a comment or empty."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return all(line.startswith(("normbench ", "#")) or not line for line in lines)


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text"))
        yield Block(page, line, match["language"], match["mark"] or "", match["text"])


EVERY = [block for page in PAGES for block in blocks(page)]
SCRIPTS = [block for block in EVERY if block.language in SHELL]
