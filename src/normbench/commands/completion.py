"""Tab completion with verbs in front of Hydra's own.

Hydra's shell scripts call `normbench -sc query=bash` with the typed line in COMP_LINE. They know nothing of
verbs: this module answers for verbs and their options, and hands the words of `train` and `plan` on to Hydra.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module

from normbench.commands import VERBS
from normbench.errors import InputError

#: Verbs whose words are overrides; Hydra completes them.
_COMPOSING = ("train", "plan")


def run(argv: Sequence[str]) -> int:
    """Answer what follows `-sc`: install=SHELL, uninstall=SHELL or query=SHELL."""
    if len(argv) != 1 or argv[0].partition("=")[0] not in ("install", "uninstall", "query"):
        raise InputError(f"-sc takes install=, uninstall= or query= and a shell; got '{' '.join(argv)}'")
    if argv[0].startswith("query="):
        program, verb, *words = _typed(os.environ.get("COMP_LINE", ""))
        if not words:
            _say(name for name in VERBS if name.startswith(verb))
            return 0
        if verb not in _COMPOSING:
            _say(name for name in candidates(verb) if name.startswith(words[-1]))
            return 0
        os.environ["COMP_LINE"] = " ".join([program, *words])
    from normbench.commands.hydra_app import call_hydra, parse_flags

    call_hydra(parse_flags(["-sc", *argv]), _nothing)
    return 0


def candidates(verb: str) -> list[str]:
    """What may be written after a verb other than train and plan: its options and the names that it takes."""
    if verb not in VERBS:
        return []
    options: Iterable[str] = import_module(f"normbench.commands.{verb}").parser()._option_string_actions
    names = _NAMES.get(verb)
    return [*(names() if names else ()), *(option for option in options if option.startswith("--"))]


def _typed(line: str) -> list[str]:
    """At least program and verb; the last word is the one to complete, empty after a space."""
    words = line.split()
    if not words or line[-1].isspace():
        words.append("")
    return words if len(words) > 1 else [*words, ""]


def _norms() -> list[str]:
    from normbench.config.resolve import choices

    return choices("norm")


def _runs() -> list[str]:
    from normbench.store import Store

    return [record.signature for record in Store.default().records()]


def _tables() -> list[str]:
    from normbench import papers

    return papers.names()


_NAMES: dict[str, Callable[[], list[str]]] = {"norms": _norms, "info": _runs, "reproduce": _tables}


def _say(names: Iterable[str]) -> None:
    print("\n".join(names))


def _nothing(config: object) -> None:
    """The task that hydra.main asks for; a completion runs none."""
