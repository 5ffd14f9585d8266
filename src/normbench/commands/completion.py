"""Tab completion: verbs and their options here, words of `train` by Hydra.

Hydra's shell scripts call `normbench -sc query=bash` with the typed line in COMP_LINE. They do not know
verbs, so this module answers for verbs and their options.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType

from normbench.commands import VERBS
from normbench.errors import InputError

#: Verbs that take the words of `train`, which Hydra completes. Of those that read, words need no options.
_COMPOSING = ("train", "plan")
_READING = ("table", "plot", "report")


def run(argv: Sequence[str]) -> int:
    """Answer what follows `-sc`: install=SHELL, uninstall=SHELL or query=SHELL."""
    if len(argv) != 1 or argv[0].partition("=")[0] not in ("install", "uninstall", "query"):
        raise InputError(f"-sc takes install=, uninstall= or query= and a shell; got '{' '.join(argv)}'")
    if argv[0].startswith("query="):
        program, verb, *words = _without_plugins(_typed(os.environ.get("COMP_LINE", "")))
        if not words:
            _say(name for name in VERBS if name.startswith(verb))
            return 0
        if verb in _READING and _names_runs(verb, words):
            words = [*(word for word in words[:-1] if "=" in word and word[0] != "-"), words[-1]]
        elif verb not in _COMPOSING:
            _say(name for name in candidates(verb) if name.startswith(words[-1]))
            return 0
        os.environ["COMP_LINE"] = " ".join([program, *words])
    from normbench.commands.hydra_app import call_hydra, parse_flags

    call_hydra(parse_flags(["-sc", *argv]), _nothing)
    return 0


def _without_plugins(words: list[str]) -> list[str]:
    """The typed words without `--plugin`, after loading what it names. What cannot be loaded is left out."""
    from normbench.plugins import loading

    if words[-2] == loading.FLAG or words[-1].startswith(loading.FLAG):
        return words
    with suppress(InputError):
        words, named = loading.split_flags(words)
        loading.load_all(named)
    return words


def _names_runs(verb: str, words: Sequence[str]) -> bool:
    """Whether the last word of a reading verb is one of `train`, and not an option or a kind of figure."""
    return words[-1][:1] not in ("", "-") and not (verb == "plot" and len(words) == 1)


def candidates(verb: str) -> list[str]:
    """What may follow a verb other than train and plan: its options and the names that it takes."""
    if verb not in VERBS:
        return []
    options: Iterable[str] = _module(verb).parser()._option_string_actions
    names = _NAMES.get(verb)
    return [*(names() if names else ()), *(option for option in options if option.startswith("--"))]


def _module(verb: str) -> ModuleType:
    return import_module(f"normbench.commands.{verb.replace('-', '_')}")


def _typed(line: str) -> list[str]:
    """The typed words, at least program and verb. The last one is completed; it is empty after a space."""
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


def _kinds() -> list[str]:
    from normbench.figures import KINDS

    return list(KINDS)


def _tables() -> list[str]:
    from normbench import papers
    from normbench.config.search_path import own_config_dir

    return papers.names(own_config_dir())


_NAMES: dict[str, Callable[[], list[str]]] = {
    "norms": _norms,
    "info": _runs,
    "reproduce": _tables,
    "new": lambda: ["ablation"],
    "plot": _kinds,
}


def _say(names: Iterable[str]) -> None:
    print("\n".join(names))


def _nothing(config: object) -> None:
    """A task for hydra.main, which requires one. Completion runs nothing."""
