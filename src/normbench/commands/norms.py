"""`normbench norms`: the catalogue of normalization layers, from the registry and the layers' docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib.resources import files
from textwrap import indent
from typing import TYPE_CHECKING

from normbench.commands.columns import columns
from normbench.commands.parser import Parser

if TYPE_CHECKING:
    from normbench.norms import Entry


def parser() -> Parser:
    made = Parser(
        "norms",
        "The normalization layers that `norm=KEY` takes; with a key, its equation, arguments and reference.",
        "normbench norms",
        "normbench norms gn",
    )
    made.add_argument("key", nargs="?", metavar="KEY", help="say all about one of them")
    return made


def run(argv: Sequence[str]) -> int:
    """Print the catalogue, or the docstring of one layer."""
    args = parser().parse_args(argv)
    from normbench import norms

    if args.key is None:
        print("\n".join(columns([_row(entry) for entry in norms.catalogue().values()])))
        return 0
    entry = norms.entry(args.key)
    print(f"{args.key}  ({entry.layer.__name__}, {entry.family}, {entry.reference})\n")
    print(inspect.getdoc(entry.layer))
    print(f"\nConfiguration, norm={args.key}:\n")
    file = files("normbench.conf") / "norm" / f"{args.key}.yaml"
    print(indent(file.read_text(encoding="utf-8"), "    "), end="")
    return 0


def _row(entry: Entry) -> dict[str, object]:
    return {
        "key": entry.key,
        "name": entry.layer.__name__,
        "family": entry.family,
        "reduces": entry.reduces,
        "train = eval": "no" if entry.eval_differs else "yes",
        "uses the batch": "yes" if entry.batch_statistics else "no",
        "paper": entry.reference,
    }
