"""`normbench dashboard`: a workspace or a report of Weights & Biases for the runs at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from normbench.commands.parser import Parser
from normbench.errors import InputError
from normbench.phrases import counted

if TYPE_CHECKING:
    from normbench.dashboard import View
    from normbench.papers import PaperReport
    from normbench.record import Record


def parser() -> Parser:
    """The options of the verb."""
    made = Parser(
        "dashboard",
        "A workspace of wandb for the runs at hand: curves with bands, violins over seeds, error against\n"
        "batch size, cost of running statistics, seconds. normbench sync sends runs that had no tracker.",
        "normbench dashboard --where data=mnist --json > workspace.json",
        "normbench dashboard --where norm=bn,gn --push --entity my-team",
        "normbench dashboard --report --paper wu2018/batch_size scale=tiny",
    )
    action = made.add_mutually_exclusive_group(required=True)
    action.add_argument("--json", action="store_true", help="print the workspace as JSON; needs no key")
    action.add_argument("--push", action="store_true", help="save the workspace as a new view")
    action.add_argument("--report", action="store_true", help="make a report: table, verdicts, panels")
    made.add_argument(
        "--where", action="append", default=[], metavar="COND",
        help="only runs with key=value, key=a,b or key!=value; may be repeated",
    )  # fmt: skip
    made.add_argument(
        "--paper", metavar="NAME", help="the runs of this paper table; a report has its verdicts"
    )
    made.add_argument(
        "words", nargs="*", metavar="key=value", help="with --paper: the words of normbench reproduce"
    )
    made.add_argument("--metric", help="of the panels (default: that of the paper table, else test_error)")
    made.add_argument("--name", help="of the view: normbench NAME (default: the conditions or the table)")
    made.add_argument("--project", help="of wandb (default: WANDB_PROJECT, else normbench)")
    made.add_argument("--entity", help="user or team (default: WANDB_ENTITY, else the owner of the key)")
    return made


def run(argv: Sequence[str]) -> int:
    """Print, save or report."""
    args = parser().parse_intermixed_args(list(argv))
    if args.words and not args.paper:
        raise InputError(f"key=value needs --paper; for other runs use --where {args.words[0]}")
    if args.where and args.paper:
        raise InputError("give --where or --paper, not both; with --paper the words choose the runs")
    from normbench import dashboard
    from normbench.dashboard.view import check_name, name_of

    dashboard.check_installed()
    if args.name is not None:
        check_name(args.name)
    if not args.json:
        dashboard.check_account()
    tags: tuple[str, ...] = ()
    if args.paper:
        records, report = _paper(args.paper, args.words)
        tags, text = (report.paper.name, report.scale), report.markdown()
        metric = args.metric or report.paper.metrics_at(report.scale)[0]
    else:
        metric = args.metric or "test_error"
        records = _chosen(args.where, metric)
        text = _table(records, metric) if args.report else ""
    name = args.name or " ".join(tags) or name_of(args.where)
    view = _view(records, name, metric, tags, bool(args.where), args.project, args.entity)
    if args.json:
        from normbench.commands.text_file import print_file

        print_file(dashboard.workspace_json(view))
    elif args.push:
        print(f"view    {dashboard.push_workspace(view)}")
    else:
        print(f"report  {dashboard.push_report(view, [text])}")
    return 0


def _view(
    records: Sequence[Record], name: str, metric: str, tags: Sequence[str], by_group: bool,
    project: str | None, entity: str | None,
) -> View:  # fmt: skip
    from normbench.dashboard.view import View, colours_of, dashboard_name, grouping
    from normbench.tracking.wandb_fields import group_of

    groups = {record.signature: group_of(record) for record in records}
    known = [record for record in records if groups[record.signature] is not None]
    if lost := len(records) - len(known):
        print(f"warning: {counted(lost, 'run')} of an older version left out", file=sys.stderr)
    by = grouping(known)
    return View(
        name=name,
        project=project or os.environ.get("WANDB_PROJECT") or "normbench",
        entity=entity or os.environ.get("WANDB_ENTITY") or "",
        metric=dashboard_name(metric),
        by=by,
        groups=tuple(dict.fromkeys(filter(None, groups.values()))) if by_group else (),
        tags=tuple(tags),
        colours=colours_of(known, by),
    )


def _chosen(where: Sequence[str], metric: str) -> list[Record]:
    """The records that meet the conditions.

    Raises:
        InputError: an unknown key or metric, or no run.
    """
    from normbench.commands.damage import warn_of_damage, whole_records
    from normbench.report.tables import chosen, conditions_of
    from normbench.store import Store

    store = Store.default()
    try:
        return chosen(whole_records(store), (), (metric,), conditions_of(where))
    finally:
        warn_of_damage(store)


def _table(records: Sequence[Record], metric: str) -> str:
    """Our table of mean ± sd, as Markdown."""
    from normbench.commands.summary import table_axes
    from normbench.report.render import render
    from normbench.report.tables import build_table

    rows, cols = table_axes([record.spec for record in records])
    return render(build_table(records, rows, cols, metric), "md")


def _paper(name: str, words: Sequence[str]) -> tuple[list[Record], PaperReport]:
    """The runs of a paper table that have a record, and their report with table and verdicts.

    Raises:
        InputError: an unknown table or scale, words that are not valid, or no run of the table.
    """
    from normbench import papers
    from normbench.commands.table_request import TableRequest
    from normbench.commands.table_runs import TableRuns
    from normbench.config.search_path import own_config_dir

    own = own_config_dir()
    asked = TableRequest.of(papers.load(name, own), words, own)
    runs = TableRuns(asked.table, asked.scale, asked.extra, own)
    records = runs.found()
    if not records:
        raise InputError(
            f"no run of {name} at scale {asked.scale} has ended; normbench reproduce {name} trains them"
        )
    return records, asked.report(records, "", runs.absent, asked.plan(runs.absent))
