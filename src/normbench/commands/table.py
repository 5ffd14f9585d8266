"""`normbench table`: a table with error bars from the runs at hand. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser, own_path
from normbench.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from normbench.report.cells import Table
    from normbench.report.run_list import RunList

FORMATS = ("rich", "md", "csv", "latex", "json")
_BY_SUFFIX = {".md": "md", ".csv": "csv", ".tex": "latex", ".json": "json"}


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "table",
        "Summarize the runs at hand: mean ± sd over seeds. Bold marks the best of a column if a paired test\n"
        "finds it better; in a pipe or a log a star does.",
        "normbench table --rows norm --cols batch",
        "normbench table norm=bn,gn batch=2,8,32 'seed=range(3)' --rows norm --cols batch",
        "normbench table --rows norm,placement --cols model --metric test_error@batch --where data=mnist",
        "normbench table --rows norm --cols batch --where batch=2,32 --out table.tex",
        "normbench table --rows norm --cols batch --select optim.lr",
        "normbench table --metric steps_per_s --runs --format csv",
        "normbench table --metric mce --reference norm=bn --reference batch=32",
        "normbench table --metric ensemble_error",
    )
    made.add_runs()
    made.add_argument("--rows", default="norm", metavar="KEYS", help="keys of the rows (default: norm)")
    made.add_argument("--cols", default="batch", metavar="KEYS", help="keys of the columns (default: batch)")
    made.add_argument(
        "--metric", default="test_error",
        help="what is averaged (default: test_error); several with commas stand side by side; "
        "ensemble_error, ensemble_nll and ensemble_ece: of the mean prediction over seeds",
    )  # fmt: skip
    made.add_argument(
        "--select", default="", metavar="KEYS",
        help="keys such as optim.lr: each cell shows the value that is best on validation images",
    )  # fmt: skip
    made.add_argument(
        "--reference", action="append", default=[], metavar="COND",
        help="with --metric mce (mean corruption error): key=value of the run that errors are divided by; "
        "may be repeated",
    )  # fmt: skip
    made.add_argument(
        "--baseline", metavar="VALUE",
        help="a row or column such as bn: adds differences from it, paired by seed, with 95 %% intervals",
    )  # fmt: skip
    made.add_argument("--runs", action="store_true", help="one line per run instead of means")
    made.add_argument("--format", choices=FORMATS, help="default: rich, or what the suffix of --out says")
    made.add_argument("--out", type=own_path, metavar="FILE", help="write to FILE: .md, .csv, .tex or .json")
    return made


def run(argv: Sequence[str]) -> int:
    """Print the table or write it to a file."""
    args = parser().parse_intermixed_args(list(argv))
    format = args.format or _format_of(args.out)
    if args.runs and args.baseline is not None:
        raise InputError("--baseline compares means; leave out --runs")
    if args.out is not None and format == "rich":
        raise InputError("a file takes the format md, csv, latex or json; got rich")
    from normbench.commands.asked_runs import asked_runs
    from normbench.commands.asked_table import TableWords, runs_of, table_of
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.text_file import check_writable, print_file, write
    from normbench.store import Store

    if args.out is not None:
        check_writable(args.out, "--out")
    store = Store.default()
    asked = TableWords(
        args.rows, args.cols, args.metric, args.where, args.select, args.reference, args.baseline
    )
    try:
        runs = asked_runs(args.words, store, args.config_dir)
        table = runs_of(runs, asked) if args.runs else table_of(runs, asked, store)
    finally:
        warn_of_damage(store)
    if format == "rich":
        _show(table)
    elif args.out is None:
        print_file(_text(table, format))
    else:
        write(args.out, _text(table, format))
        print(f"wrote {args.out}")
    return 0


def _show(table: Table | RunList) -> None:
    from rich.console import Console

    from normbench.report.run_list import RunList
    from normbench.report.terminal import renderable, run_lines

    console = Console(highlight=False)
    shown: RenderableType = (
        run_lines(table, console) if isinstance(table, RunList) else renderable(table, console)
    )
    console.print(shown)


def _text(table: Table | RunList, format: str) -> str:
    from normbench.report.render import render
    from normbench.report.run_list import RunList, render_runs

    return render_runs(table, format) if isinstance(table, RunList) else render(table, format)


def _format_of(out: Path | None) -> str:
    if out is None:
        return "rich"
    if out.suffix not in _BY_SUFFIX:
        raise InputError(f"--out must end in {', '.join(_BY_SUFFIX)}, or --format be given; got '{out}'")
    return _BY_SUFFIX[out.suffix]
