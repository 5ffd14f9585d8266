"""`normbench report`: tables, verdicts, figures and runs as a folder of pages. Nothing is trained."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser, own_path
from normbench.errors import InputError
from normbench.visible import visible

if TYPE_CHECKING:
    from argparse import Namespace

    from normbench.pages import Page
    from normbench.store import Store

#: The metric of a page of chosen runs.
_METRIC = "test_error"


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "report",
        "Write a folder of pages that open from disk: tables beside published numbers, verdicts, figures,\n"
        "and every run with its command line. Without words: all tables that have finished runs. With words\n"
        "of train or --where: one page for those runs. Nothing is trained.",
        "normbench report",
        "normbench report --out ~/for-my-colleague",
        "normbench report norm=bn,gn batch=8,32 epochs=3 'seed=range(3)'",
        "normbench report --where data=mnist --metric test_error@batch",
    )
    made.add_runs()
    made.add_argument(
        "--metric", metavar="METRIC",
        help=f"with words or --where: what the table shows (default: {_METRIC})",
    )  # fmt: skip
    made.add_argument(
        "--out", type=own_path, metavar="FOLDER",
        help="write into FOLDER (default: report/ of the results folder); it replaces an earlier report",
    )  # fmt: skip
    return made


def run(argv: Sequence[str]) -> int:
    """Write the report; 2 if there is nothing to show or the folder cannot take it."""
    args = parser().parse_intermixed_args(list(argv))
    from datetime import UTC, datetime

    from normbench.commands.damage import warn_of_damage
    from normbench.commands.rerun import command_or_reason
    from normbench.pages import Site, write
    from normbench.pages.folder import check
    from normbench.store import Store

    chosen = bool(args.words or args.where)
    if args.metric is not None and not chosen:
        raise InputError("--metric needs words or --where; tables have the metrics of their files")
    store = Store.default()
    folder = args.out or store.root / "report"
    check(folder)
    try:
        pages, skipped = ([_asked(args, store)], []) if chosen else _tables(args, store)
        today = datetime.now(UTC).date().isoformat()
        files = Site(pages, command_or_reason, store.history, today, skipped).files()
    finally:
        warn_of_damage(store)
    write(files, folder)
    for line in skipped:
        print(visible(f"warning: {line}"), file=sys.stderr)
    for page in pages:
        print(visible(f"{page.name}  {page.verdict}"))
    print(f"wrote {len(files)} files\nopen {folder / 'index.html'}")
    return 0


def _tables(args: Namespace, store: Store) -> tuple[list[Page], list[str]]:
    """The pages of all tables that have finished runs.

    Raises:
        InputError: there are none.
    """
    from normbench.commands.damage import whole_records
    from normbench.commands.finished_tables import FinishedTables
    from normbench.config.search_path import own_config_dir
    from normbench.pages import of_report
    from normbench.papers.drawings import declared, drawings
    from normbench.papers.drawn_runs import Drawable

    found = FinishedTables(store.root, whole_records(store), args.config_dir or own_config_dir())
    if not found.reports:
        remedy = "normbench reproduce trains one; for other runs give words of train or --where"
        why = f" ({found.skipped[0]})" if found.skipped else ""
        raise InputError(f"no table has a finished run in {store.root}{why}; {remedy}")
    pages = [
        of_report(report, drawings(declared(report), Drawable(report.table, report.records, store.history)))
        for report in found.reports
    ]
    return pages, found.skipped


def _asked(args: Namespace, store: Store) -> Page:
    """The page of the runs that words and conditions name.

    Raises:
        InputError: there are none, or a key or metric does not exist.
    """
    from normbench.commands.asked_runs import asked_runs
    from normbench.commands.summary import table_axes
    from normbench.pages import of_runs
    from normbench.papers.drawings import drawings, of_means
    from normbench.papers.drawn_runs import Drawable
    from normbench.report.axes import knobs_to_name
    from normbench.report.images import with_images
    from normbench.report.tables import build_table, chosen, conditions_of

    metric = args.metric or _METRIC
    runs = asked_runs(args.words, store, args.config_dir)
    conditions = conditions_of(args.where)
    records = chosen(runs.records, (), (metric,), conditions)
    missing = [run for run in runs.missing if all(condition.admits(run) for condition in conditions)]
    rows, cols = table_axes([record.spec for record in (*records, *missing)])
    table = build_table(records, rows, cols, metric, args.where, skipped=runs.skipped, missing=missing)
    table = with_images(table, records)
    given = [*args.words, *(word for text in args.where for word in ("--where", text))]
    options = ["--metric", args.metric] if args.metric else []
    return of_runs(
        f"Runs with {' '.join([*args.words, *args.where])}",
        shlex.join(["normbench", "report", *given, *options]),
        table,
        records,
        drawings(of_means(table), Drawable(table, records, store.history)),
        knobs_to_name([*records, *missing], rows, (cols,)),
    )
