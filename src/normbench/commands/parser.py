"""An argument parser that raises its errors as one line instead of printing them."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import NoReturn

from normbench.commands.arguments import explain_arguments
from normbench.errors import InputError


def own_path(text: str) -> Path:
    """A path that a user gives; ~ is their home folder, also in --out=~/t.md, which no shell expands."""
    return Path(text).expanduser()


class Parser(ArgumentParser):
    """The parser of one verb.

    Args:
        verb:     its name.
        summary:  what it does; the first lines of its help.
        examples: command lines; the last lines of its help.
    """

    def __init__(self, verb: str, summary: str, *examples: str) -> None:
        super().__init__(
            prog=f"normbench {verb}",
            description=summary,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples),
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_runs(self) -> None:
        """The arguments that say which runs to read: words of `train`, --where, --config-dir."""
        self.add_words("the words of a train command: only its runs; without words, all runs at hand")
        self.add_where("gives the order of rows")
        self.add_config_dir()

    def add_words(self, meaning: str, metavar: str = "key=value") -> None:
        """The positional arguments, with their meaning in the help."""
        self.add_argument("words", nargs="*", metavar=metavar, help=meaning)

    def add_where(self, further: str = "") -> None:
        """Conditions on runs; `further` is what else the help says of them."""
        said = "only runs with key=value, key=a,b or key!=value; may be repeated"
        meaning = f"{said}; {further}" if further else said
        self.add_argument("--where", action="append", default=[], metavar="COND", help=meaning)

    def add_config_dir(self) -> None:
        """The folder with the user's own choices, for verbs that compose words of `train`."""
        self.add_argument("-cd", "--config-dir", metavar="DIR", help="also search DIR for your own choices")

    def error(self, message: str) -> NoReturn:
        words = any(action.dest == "words" for action in self._actions)
        said = explain_arguments(message, self._option_string_actions, takes_words=words)
        raise InputError(f"{said}; see {self.prog} --help")
