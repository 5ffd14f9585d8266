"""`normbench table`: a table with error bars from the records at hand. Nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser
from normbench.errors import InputError

if TYPE_CHECKING:
    from normbench.report.cells import Table

FORMATS = ("rich", "md", "csv", "latex", "json")
_BY_SUFFIX = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def parser() -> Parser:
    made = Parser(
        "table",
        "Summarize the runs at hand: mean ± sd over seeds; bold is what a paired test finds best.",
        "normbench table --rows norm --cols batch",
        "normbench table --rows norm,placement --cols model --metric test_error@batch --where data=mnist",
        "normbench table --rows norm --cols batch --where batch=2,32 --out table.tex",
    )
    made.add_argument("--rows", default="norm", metavar="KEYS", help="keys of the rows (default: norm)")
    made.add_argument("--cols", default="batch", metavar="KEYS", help="keys of the columns (default: batch)")
    made.add_argument("--metric", default="test_error", help="what is averaged (default: test_error)")
    made.add_argument(
        "--where", action="append", default=[], metavar="COND",
        help="only runs with key=value, key=a,b or key!=value; may be repeated",
    )  # fmt: skip
    made.add_argument("--format", choices=FORMATS, help="default: rich, with --out what its suffix says")
    made.add_argument("--out", type=Path, metavar="FILE", help="write to FILE: .md, .csv, .tex or .json")
    return made


def run(argv: Sequence[str]) -> int:
    """Print the table or write it to a file."""
    args = parser().parse_args(argv)
    form = args.format or _format_of(args.out)
    if args.out is not None and form == "rich":
        raise InputError("a file takes the format md, csv, latex or json; got rich")
    from normbench.report.tables import build_table
    from normbench.store import Store

    store = Store.default()
    table = build_table(store.records(), args.rows, args.cols, args.metric, args.where)
    for message in store.damaged:
        print(f"warning: {message}", file=sys.stderr)
    if form == "rich":
        _show(table)
    elif args.out is None:
        print(_text(table, form), end="")
    else:
        write(args.out, _text(table, form))
        print(f"wrote {args.out}")
    return 0


def _show(table: Table) -> None:
    from rich.console import Console

    from normbench.report.terminal import renderable

    console = Console(highlight=False)
    console.print(renderable(table, console))


def write(file: Path, text: str) -> None:
    """Write a text file, or say in one line why it cannot be written."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror or error}; give another file") from None


def _text(table: Table, form: str) -> str:
    from normbench.report.render import render

    return render(table, form)


def _format_of(out: Path | None) -> str:
    if out is None:
        return "rich"
    if out.suffix not in _BY_SUFFIX:
        raise InputError(f"--out must end in {', '.join(_BY_SUFFIX)}, or --format be given; got '{out}'")
    return _BY_SUFFIX[out.suffix]
