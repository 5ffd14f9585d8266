"""An argument parser that keeps to normbench's way of complaining: one line, raised, not printed."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import NoReturn

from normbench.errors import InputError


class Parser(ArgumentParser):
    """The parser of one verb.

    Args:
        verb:     the verb.
        summary:  what it does, first in its help.
        examples: command lines, last in its help.
    """

    def __init__(self, verb: str, summary: str, *examples: str) -> None:
        super().__init__(
            prog=f"normbench {verb}",
            description=summary,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")
