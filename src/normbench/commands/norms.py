"""`normbench norms`: the catalogue of norms and weight maps, from the registries and the docstrings."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from textwrap import indent

from normbench.commands.parser import Parser
from normbench.errors import InputError

FORMATS = ("rich", "md")


def parser() -> Parser:
    made = Parser(
        "norms",
        "List the methods for `norm=KEY` and `weight=KEY`. With a key: equation, arguments, reference.",
        "normbench norms",
        "normbench norms gn",
        "normbench norms --format md > docs/NORMS.md",
        "normbench norms --cost --shape 32,64,16,16",
    )
    made.add_argument("key", nargs="?", metavar="KEY", help="describe this method in full")
    made.add_argument("--format", choices=FORMATS, default="rich", help="rich: a table; md: a page")
    made.add_argument(
        "--cost",
        action="store_true",
        help="measure time and memory of every norm relative to bn, on this machine",
    )
    made.add_argument(
        "--shape", action="append", metavar="N,C,H,W",
        help="input shape for --cost; may be repeated (default: 32,64,16,16 and 2,6,14,14)",
    )  # fmt: skip
    made.add_argument(
        "--seconds",
        type=float,
        default=0.5,
        help="seconds that --cost takes per norm and shape (default: 0.5)",
    )
    return made


def run(argv: Sequence[str]) -> int:
    """Print the catalogue, one method, or the costs."""
    args = parser().parse_args(argv)
    if args.key is not None and (args.cost or args.format == "md"):
        raise InputError("--cost and --format md show all methods; leave out the KEY")
    if args.shape and not args.cost:
        raise InputError("--shape needs --cost; add --cost")
    if args.cost:
        from normbench.commands.norms_cost import show

        show(args.shape or ["32,64,16,16", "2,6,14,14"], args.seconds, args.format)
    elif args.key is not None:
        _one(args.key)
    elif args.format == "md":
        from normbench.commands.norms_page import page

        print(page(), end="")
    else:
        _catalogue()
    return 0


def _catalogue() -> None:
    from normbench import weight_norms
    from normbench.commands.method_docs import method_doc
    from normbench.commands.norms_overview import overview

    _show("norm=", overview())
    _show(
        "weight=",
        [
            {
                "key": key,
                "name": method_doc(kind).title,
                "does": method_doc(kind).summary,
                "paper": kind.reference,
            }
            for key, kind in weight_norms.catalogue().items()
        ],
    )


def _one(key: str) -> None:
    import yaml

    from normbench import norms, parts, weight_norms
    from normbench.errors import unknown

    kinds: dict[str, tuple[str, type]] = {k: ("weight", v) for k, v in weight_norms.catalogue().items()}
    kinds |= {k: ("norm", entry.layer) for k, entry in norms.catalogue().items()}
    if key not in kinds:
        raise unknown("norm", key, kinds)
    group, kind = kinds[key]
    print(f"{key}  ({kind.__name__}, {group}={key})\n")
    print(inspect.getdoc(kind))
    print(f"\nConfiguration, {group}={key}:\n")
    if (own := parts.knobs(group, key)) is not None:
        text = yaml.safe_dump(dict(own), sort_keys=False, allow_unicode=True)
    else:
        text = (files("normbench.conf") / group / f"{key}.yaml").read_text(encoding="utf-8")
    print(indent(text, "    "), end="")


#: Columns that are left out first if the terminal is too narrow.
_OPTIONAL = ("state", "reduces", "train = eval", "uses the batch", "paper")


def _show(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print a table as wide as the terminal: text wraps, and optional columns are left out if need be.

    A file or a pipe has no width, unless COLUMNS says one.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS"):
        console.width = sum(_natural_width(rows).values())
    columns = fitting(rows, console.width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console.print(table)
    if left_out := [column for column in rows[0] if column not in columns]:
        console.print(f"left out to fit the width: {', '.join(left_out)}")


def fitting(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The columns that a table of that width has room for, without wrapping if possible.

    >>> rows = [{"key": "bn", "state": "mean, var", "paper": "ioffe2015"}]
    >>> fitting(rows, 40), fitting(rows, 22)
    (['key', 'state', 'paper'], ['key', 'paper'])
    """
    natural = _natural_width(rows)
    columns = list(rows[0])
    for optional in _OPTIONAL:
        if sum(natural[column] for column in columns) > width and optional in columns:
            columns.remove(optional)
    return columns


def _natural_width(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """The width of each column without wrapping, with the space between columns."""
    return {name: max(len(name), *(len(row[name]) for row in rows)) + 3 for name in rows[0]}
