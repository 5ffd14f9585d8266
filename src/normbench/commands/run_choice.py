"""The runs that a command acts on: by the starts of signatures, by words of `train`, by conditions."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from normbench.commands.parser import Parser
from normbench.commands.runs_at_hand import RunAtHand, named_runs, runs_at_hand
from normbench.errors import InputError
from normbench.store import Store


def add_choice(made: Parser) -> None:
    """The arguments that say which runs."""
    made.add_words("starts of signatures; or key=value, the words of a train command", metavar="RUN")
    made.add_where()
    made.add_config_dir()


def chosen_runs(store: Store, args: Namespace, names: Sequence[str]) -> list[RunAtHand]:
    """The runs that exist, in order.

    Args:
        args:  what `add_choice` reads.
        names: signatures or words.

    Raises:
        InputError: nothing says which runs, signatures and words are mixed, or no run is meant.
    """
    signatures = [name for name in names if "=" not in name]
    words = [name for name in names if "=" in name]
    if not names and not args.where:
        raise InputError("say which runs: starts of signatures, words of train, or --where COND")
    if signatures and (words or args.where):
        raise InputError(f"give signatures, or words and --where; got both, such as '{signatures[0]}'")
    if signatures:
        return named_runs(store, signatures)
    runs, _ = runs_at_hand(store, words, args.where, args.config_dir)
    if not runs:
        raise InputError("no run at hand is meant by this; normbench runs lists those that are here")
    return runs
