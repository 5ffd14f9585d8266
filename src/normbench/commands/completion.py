"""Tab completion: verbs and their options here, words of `train` by Hydra.

Hydra's shell scripts call `normbench -sc query=bash` with the typed line in COMP_LINE. They do not know
verbs, so this module answers for verbs and their options.
"""

from __future__ import annotations

import contextlib
import io
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module

from normbench.commands import VERBS, completion_values
from normbench.errors import InputError

#: Verbs that take the words of `train`, which Hydra completes. Of those that read, words need no options.
_COMPOSING = ("train", "plan")
_READING = ("table", "plot", "report", "status", "runs", "export", "cite")
#: Option → what its value may be, given what is typed of it.
_VALUES: dict[str, Callable[[str], list[str]]] = {
    **dict.fromkeys(
        ("--rows", "--cols", "--select", "--x", "--hue"),
        lambda word: completion_values.after_commas(word, completion_values.keys()),
    ),
    **dict.fromkeys(
        ("--metric", "--y"), lambda word: completion_values.after_commas(word, completion_values.metrics())
    ),
    **dict.fromkeys(("--where", "--reference"), completion_values.conditions),
    "--sort": lambda word: completion_values.after_commas(word, _sort_keys()),
}


def run(argv: Sequence[str]) -> int:
    """Answer what follows `-sc`: install=SHELL, uninstall=SHELL or query=SHELL."""
    if len(argv) != 1 or argv[0].partition("=")[0] not in ("install", "uninstall", "query"):
        raise InputError(f"-sc takes install=, uninstall= or query= and a shell; got '{' '.join(argv)}'")
    if not argv[0].startswith("query="):
        _ask_hydra(argv[0])
        return 0
    program, verb, *words = _without_plugins(_typed(os.environ.get("COMP_LINE", "")))
    if not words:
        _say(name for name in VERBS if name.startswith(verb))
        return 0
    found = _own_answer(verb, words)
    if found is not None:
        _say(found)
        return 0
    if verb in _READING:
        words = [*(word for word in words[:-1] if "=" in word and word[0] != "-"), words[-1]]
    _complete_word(argv[0], program, words)
    return 0


def _own_answer(verb: str, words: Sequence[str]) -> list[str] | None:
    """What may complete the last word; None if it is a word of train, which Hydra completes."""
    last = words[-1]
    found = _of_option(verb, words)
    if found is not None:
        return found
    if verb == "reproduce" and last.startswith("scale="):
        scales = completion_values.scales(words[:-1])
        return [f"scale={name}" for name in scales if name.startswith(last.removeprefix("scale="))]
    if verb in _COMPOSING or (verb in _READING and _names_runs(verb, words)):
        return None
    return [name for name in candidates(verb) if name.startswith(last)]


def _complete_word(query: str, program: str, words: Sequence[str]) -> None:
    """Let Hydra complete a word of train. After commas it is asked for the last value of the list alone."""
    key, _, given = words[-1].partition("=")
    before, comma, last = given.rpartition(",")
    if not comma or "[" in given:  # commas in brackets do not separate values of a sweep
        os.environ["COMP_LINE"] = " ".join([program, *words])
        _ask_hydra(query)
        return
    os.environ["COMP_LINE"] = " ".join([program, *words[:-1], f"{key}={last}"])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        _ask_hydra(query)
    listed = before.split(",")
    values = (word.partition("=")[2] for word in out.getvalue().split() if word.startswith(f"{key}="))
    _say(f"{key}={before},{value}" for value in values if value and value not in listed)


def _ask_hydra(query: str) -> None:
    from normbench.commands.hydra_app import call_hydra, parse_flags

    call_hydra(parse_flags(["-sc", query]), _nothing)


def _of_option(verb: str, words: Sequence[str]) -> list[str] | None:
    """The values of the option that the last word belongs to; None if it belongs to none."""
    if verb not in VERBS or verb in _COMPOSING:
        return None
    last = words[-1]
    option, sign, given = last.partition("=")
    if not (sign and option.startswith("--")):
        option, sign, given = (words[-2], "", last) if len(words) > 1 else ("", "", last)
    action = _parser(verb)._option_string_actions.get(option)
    if action is None or action.nargs == 0:
        return None
    prefix = f"{option}=" if sign else ""
    if option in _VALUES:
        return [prefix + value for value in _VALUES[option](given)]
    if action.choices is not None:
        return [prefix + str(choice) for choice in action.choices if str(choice).startswith(given)]
    return []  # such as a file: the shell completes it


def _parser(verb: str) -> ArgumentParser:
    made: ArgumentParser = import_module(f"normbench.commands.{verb.replace('-', '_')}").parser()
    return made


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
    """Whether the last word of a reading verb is one of `train`, and not an option or a name it takes."""
    last = words[-1]
    if last[:1] in ("", "-"):
        return False
    names = _NAMES.get(verb)
    takes_name = names is not None and "=" not in last and len(words) == 1
    return not (takes_name and names is not None and any(name.startswith(last) for name in names()))


def candidates(verb: str) -> list[str]:
    """What may follow a verb other than train and plan: its options and the names that it takes."""
    if verb not in VERBS:
        return []
    options: Iterable[str] = _parser(verb)._option_string_actions
    names = _NAMES.get(verb)
    return [*(names() if names else ()), *(option for option in options if option.startswith("--"))]


def _typed(line: str) -> list[str]:
    """The typed words, at least program and verb. The last one is completed; it is empty after a space."""
    words = line.split()
    if not words or line[-1].isspace():
        words.append("")
    return words if len(words) > 1 else [*words, ""]


def _norms() -> list[str]:
    from normbench.config.resolve import choices

    return choices("norm")


def _sort_keys() -> list[str]:
    from normbench.commands.runs import COLUMNS

    return list(dict.fromkeys([*COLUMNS, *completion_values.keys()]))


def _kinds() -> list[str]:
    from normbench.figures import KINDS

    return list(KINDS)


def _tables() -> list[str]:
    from normbench import papers
    from normbench.config.search_path import own_config_dir

    return [*papers.names(own_config_dir()), "scale=", "seed_offset="]


_NAMES: dict[str, Callable[[], list[str]]] = {
    "norms": _norms,
    "info": completion_values.signatures,
    "export": completion_values.signatures,
    "runs": lambda: ["rm", "tag"],
    "reproduce": _tables,
    "new": lambda: ["ablation", "norm", "model"],
    "plot": _kinds,
}


def _say(names: Iterable[str]) -> None:
    print("\n".join(names))


def _nothing(config: object) -> None:
    """A task for hydra.main, which requires one. Completion runs nothing."""
