"""`normbench check-norm`: the contract of norm layers on a norm of the user's own, clause by clause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normbench.commands.parser import Parser
from normbench.errors import InputError


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "check-norm",
        "Check norms of your own against the contract that the norms of this package keep. Exit code 1 if a\n"
        "clause is broken.",
        "normbench check-norm my_norm.py",
        "normbench check-norm my_norm.py norm=mine norm.args.group_size=2",
    )
    made.add_argument(
        "plugin", metavar="PLUGIN", help="a module, a .py file or a folder that registers norms"
    )
    made.add_argument(
        "words", nargs="*", metavar="norm.args.KEY=VALUE",
        help="norm=KEY: check this one alone; arguments that inputs of 4 images and 6 channels need",
    )  # fmt: skip
    return made


def run(argv: Sequence[str]) -> int:
    """Print every clause and whether the norm keeps it; 1 if one is broken."""
    args = parser().parse_intermixed_args(list(argv))
    from normbench import parts
    from normbench.plugins import loading

    loading.load(args.plugin)
    given = _given(args.words)
    only = given.pop("norm", None)
    module = loading.located(args.plugin)
    keys = [p.name for p in parts.everything() if p.group == "norm" and loading.is_of(p, module)]
    if only is not None and only not in keys:
        raise InputError(f"plugin {args.plugin} has no norm {only}; it has {', '.join(keys) or 'none'}")
    if not keys:
        raise InputError(
            f'plugin {args.plugin} registers no norm; decorate the class with @normbench.plugins.norm("mine")'
        )
    broken = [_check(key, given) for key in ([only] if only else keys)]
    return int(any(broken))


def _given(words: Sequence[str]) -> dict[str, Any]:
    """The arguments by name, and `norm`.

    Raises:
        InputError: a word is none of these.
    """
    import yaml

    found: dict[str, Any] = {}
    for word in words:
        key, sign, value = word.partition("=")
        name = key.removeprefix("norm.args.").removeprefix("norm.")
        if not sign or not key.startswith("norm"):
            raise InputError(f"check-norm takes norm=KEY and norm.args.NAME=VALUE; got {word}")
        found[name] = yaml.safe_load(value)
    return found


def _check(key: str, given: Mapping[str, Any]) -> int:
    """Print the clauses of one norm; return how many are broken."""
    from normbench import norms
    from normbench.errors import unknown
    from normbench.norms.contract import CLAUSES, Subject, broken
    from normbench.phrases import counted

    known = norms.entry(key).arguments
    for name in given:
        if name not in known:
            raise unknown(f"argument of norm {key}", name, known)
    subject, wrong = Subject(key, given), 0
    print(f"norm {key}")
    for clause in CLAUSES:
        reason = broken(clause, subject)
        wrong += reason is not None
        says = (clause.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        print(f"  ok      {says}" if reason is None else f"  failed  {says}\n          {reason}")
    kept = len(CLAUSES) - wrong
    print(f"{key}: {kept} of {counted(len(CLAUSES), 'clause')} kept" + (f", {wrong} broken" if wrong else ""))
    return wrong
