"""`normbench plot`: a figure from the runs at hand. Nothing is trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normbench.commands.parser import Parser
from normbench.errors import InputError, unknown
from normbench.figures import KINDS
from normbench.figures.look import COLUMN
from normbench.visible import visible

if TYPE_CHECKING:
    from argparse import Namespace

    from matplotlib.figure import Figure

    from normbench.commands.asked_runs import AskedRuns
    from normbench.record import Record
    from normbench.report.selection import Condition
    from normbench.store import Store

#: Kinds along training, and the metric that each shows by default.
_ALONG = {"curve": "train_loss", "band": "smoothness/loss_range", "percentiles": "percentiles"}
_SUFFIXES = (".svg", ".png")


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "plot",
        "Draw a figure from the runs at hand. KIND is one of:\n"
        + "\n".join(f"  {kind:<12} {line}" for kind, line in KINDS.items())
        + "\nRuns that diverged, failed or are missing are marked in the figure.",
        "normbench plot line --x batch --hue norm --out error.svg",
        "normbench plot curve norm=bn,gn batch=8 'seed=range(3)' --y train_loss --out curve.png",
        "normbench plot heat --x batch --hue norm --y test_error@batch --where data=mnist --out heat.svg",
        "normbench plot line --x norm.momentum --y running_error/var_mean --hue batch --out momentum.svg",
    )
    made.add_argument("kind", metavar="KIND", help="the kind of figure, see above")
    made.add_runs()
    made.add_argument(
        "--x", metavar="KEYS",
        help="key of the x axis (default: batch); along training: step, epoch or images_seen (default: step)",
    )  # fmt: skip
    made.add_argument(
        "--y", metavar="METRIC", help="what is drawn (default: test_error, or that of the kind)"
    )
    made.add_argument("--hue", default="norm", metavar="KEYS", help="keys that get colours (default: norm)")
    made.add_argument(
        "--width", type=float, default=COLUMN, metavar="INCHES",
        help=f"width of the figure (default: {COLUMN}, a column)",
    )  # fmt: skip
    made.add_argument(
        "--out", type=Path, action="append", required=True, metavar="FILE",
        help="write to FILE: .svg or .png; may be repeated",
    )  # fmt: skip
    return made


def run(argv: Sequence[str]) -> int:
    """Draw the figure and write it to its files."""
    args = parser().parse_intermixed_args(list(argv))
    if args.kind not in KINDS:
        raise unknown("kind of figure", args.kind, KINDS, remedy="it stands before the words")
    if args.kind == "heat" and not args.hue:
        raise InputError("a heat map needs two keys; give --x and --hue")
    if not 1.5 <= args.width <= 20:
        raise InputError(f"--width must be from 1.5 to 20 inches; got {args.width:g}")
    for file in args.out:
        if file.suffix not in _SUFFIXES:
            raise InputError(f"--out must end in {' or '.join(_SUFFIXES)}; got '{file}'")
    from normbench.commands.asked_runs import asked_runs
    from normbench.commands.damage import warn_of_damage
    from normbench.commands.text_file import check_writable, write
    from normbench.figures.image import image
    from normbench.store import Store

    for file in args.out:
        check_writable(file, "--out")
    store = Store.default()
    try:
        runs = asked_runs(args.words, store, args.config_dir)
        if not runs.records:
            raise InputError("there are no records; train some, or set NORMBENCH_RESULTS to their folder")
        figure = _figure(args, runs, store)
    finally:
        warn_of_damage(store)
    for file in args.out:
        write(file, image(figure, file.suffix[1:]))
        print(f"wrote {file}")
    return 0


def _figure(args: Namespace, runs: AskedRuns, store: Store) -> Figure:
    if args.kind in _ALONG:
        return _along_training(args, runs, store)
    if args.kind == "reliability":
        return _reliability(args, runs)
    return _of_table(args, runs)


def _of_table(args: Namespace, runs: AskedRuns) -> Figure:
    from normbench.figures.bars import bars
    from normbench.figures.heat import heat
    from normbench.figures.line import line
    from normbench.report.tables import build_table, keys_of

    x, hue = keys_of(args.x or "batch"), keys_of(args.hue)
    rows, cols = (hue, x) if hue else (x, ())
    table = build_table(
        runs.records, rows, cols, args.y or "test_error", args.where,
        skipped=runs.skipped, missing=runs.missing,
    )  # fmt: skip
    _warn(table.warnings)
    kinds = {"line": line, "bars": bars, "heat": heat}
    return kinds[args.kind](table, width=args.width)


def _along_training(args: Namespace, runs: AskedRuns, store: Store) -> Figure:
    from normbench.figures.band import band
    from normbench.figures.curve import curve
    from normbench.figures.percentiles import percentiles
    from normbench.report.courses import courses
    from normbench.report.tables import conditions_of, keys_of

    x, metric = args.x or "step", args.y or _ALONG[args.kind]
    conditions = conditions_of(args.where)
    admitted = [run for run in runs.records if all(condition.admits(run) for condition in conditions)]
    histories = {run.signature: store.history(run.signature) for run in admitted}
    _warn_of_missing(runs, conditions)

    def cells(of: str) -> Any:
        return courses(
            runs.records, histories, keys_of(args.hue), of, x, conditions=conditions, missing=runs.missing
        )

    if args.kind == "percentiles":
        found = _percentiles_of(metric, histories)
        figure = percentiles({p: cells(f"{metric}/p{p}") for p in found}, metric, x, width=args.width)
    else:
        figure = {"curve": curve, "band": band}[args.kind](cells(metric), metric, x, width=args.width)
    if args.kind != "band":  # a band shows how runs differ
        _warn_of_pooled(admitted, args.hue)
    return figure


def _percentiles_of(metric: str, histories: dict[str, Any]) -> list[int]:
    """The percentiles that curves have of a diagnostic."""
    names = {name for history in histories.values() for point in history for name in point}
    known = {name.partition("/")[0] for name in names if name.startswith("percentiles")}
    if metric not in known:
        remedy = "train with diagnostics=[percentiles:100] for one reading every 100 steps"
        raise unknown("diagnostic along training", metric, known, remedy=remedy)
    return sorted(int(name.rpartition("/p")[2]) for name in names if name.startswith(f"{metric}/p"))


def _reliability(args: Namespace, runs: AskedRuns) -> Figure:
    from normbench.figures.reliability import reliability
    from normbench.report.calibration import reliabilities
    from normbench.report.tables import conditions_of, keys_of

    if args.x is not None:
        raise InputError("a reliability curve is drawn against confidence; leave --x out")
    conditions = conditions_of(args.where)
    _warn_of_missing(runs, conditions)
    cells = reliabilities(
        runs.records, keys_of(args.hue), args.y or "test_reliability",
        conditions=conditions, missing=runs.missing,
    )  # fmt: skip
    _warn_of_pooled([r for r in runs.records if all(c.admits(r) for c in conditions)], args.hue)
    return reliability(cells, width=args.width)


def _warn_of_missing(runs: AskedRuns, conditions: Sequence[Condition]) -> None:
    from normbench.report.missing import lines_on

    def admitted(records: Sequence[Record]) -> list[Record]:
        return [run for run in records if all(condition.admits(run) for condition in conditions)]

    _warn(lines_on(admitted(runs.missing), admitted(runs.records)))


def _warn_of_pooled(records: Sequence[Record], hue: str) -> None:
    from normbench.report.axes import knobs_to_name, parts
    from normbench.report.footnotes import on_pooled
    from normbench.report.tables import keys_of

    keys = keys_of(hue)
    knobs = knobs_to_name(records, keys, ())
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(parts(record, keys, knobs), []).append(record)
    _warn(on_pooled(list(groups.values())))


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        print(visible(f"warning: {line}"), file=sys.stderr)
