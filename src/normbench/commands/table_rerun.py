"""One table of `normbench reproduce`: train what it lacks, write its files, print it, judge its claims."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from normbench.visible import visible

if TYPE_CHECKING:
    from normbench.commands.table_runs import TableRuns
    from normbench.papers import PaperReport, PaperTable, SeedPlan

#: The seeds and the tracker are not what a table shows.
_SAME_TABLE = ("seed", "tracking")


class Ended(NamedTuple):
    """How a reproduction ended: the exit code, and what it gave; None if it was only planned."""

    status: int
    report: PaperReport | None


def rerun(table: PaperTable, args: Namespace, words: Sequence[str]) -> Ended:
    """Train what a table lacks, write its files and print it.

    Args:
        args:  the options of `reproduce`.
        words: scale=…, seed_offset=…, and words over the table's.

    Raises:
        InputError: an unknown scale, or words that are not valid.
    """
    from normbench import papers
    from normbench.commands.expected_cost import of_table
    from normbench.commands.planned import plan_lines
    from normbench.commands.summary import broken
    from normbench.commands.table_request import TableRequest
    from normbench.commands.table_runs import TableRuns
    from normbench.commands.text_file import check_writable, write
    from normbench.config.search_path import own_config_dir
    from normbench.papers.drawings import declared, drawings
    from normbench.papers.drawn_runs import Drawable

    own = own_config_dir()
    asked = TableRequest.of(table, words, own, args)
    runs = TableRuns(asked.table, asked.scale, asked.extra, own)
    folder = args.out or runs.store.root / "tables"
    for name, why in runs.absent.items():
        print(visible(f"n/a: data={name}: {why}"))
    for option, file in (("--json", args.json), ("--out", args.out and args.out / f"{table.name}.md")):
        if file is not None:
            check_writable(file, option)
    variant = _variant(runs)
    print(of_table(asked.chosen, len(runs.configs), as_in_file=not variant))
    if args.plan:
        print("\n".join(plan_lines(runs.configs, runs.store)))
        return Ended(0, None)
    runs.train()
    plan, impossible = asked.plan(runs.absent), runs.impossible()
    report = asked.report(runs.records, variant, runs.absent, plan, impossible)
    while more := papers.next_look(report, plan):
        _say_look(report, plan, more)
        runs.train_further(more)
        report = asked.report(runs.records, variant, runs.absent, plan, impossible)
    drawn = drawings(declared(report), Drawable(report.table, report.records, runs.store.history))
    files = papers.write(report, folder, {each.name: each.file for each in drawn if each.file is not None})
    if args.json is not None:
        tree = report.to_json()
        write(args.json, json.dumps(tree, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        files.append(args.json)
    _show(report)
    failed = broken(runs.records, runs.store)
    undrawn = [f"figure {each.name} cannot be drawn: {each.fault}" for each in drawn if each.file is None]
    for line in [*undrawn, *failed, "", *(f"wrote {file}" for file in files)]:
        print(visible(line))
    undecided = args.strict and any(claim.open for claim in report.claims)
    status = int(any(claim.broken for claim in report.claims) or bool(failed) or undecided)
    return Ended(status, report)


def _say_look(report: PaperReport, plan: SeedPlan, more: Mapping[tuple[str, ...], Sequence[int]]) -> None:
    runs = sum(map(len, more.values()))
    names = ", ".join(claim.id for claim in report.claims if claim.open_to_seeds)
    print(f"look {len(plan.asked)} of {plan.looks}: {runs} further runs in {len(more)} cells for {names}")


def _variant(runs: TableRuns) -> str:
    """Empty if the words change nothing but the seeds, else what tells the files from the table's own.

    If the table reads a folder of images, such as ImageNet, data.path only says where that folder is.
    """
    placed = any("data.path" in grid for grid in runs.table.scale(runs.scale).grids)
    here = {"data.path": runs.extra["data.path"]} if placed and "data.path" in runs.extra else {}
    if all(key in here or key.partition(".")[0] in _SAME_TABLE for key in runs.extra):
        return ""
    from normbench import papers
    from normbench.config.compose import compose
    from normbench.config.resolve import resolve
    from normbench.config.search_path import own_config_dir

    sweeps = papers.sweeps(runs.table, runs.scale, {"seed": ["0"], **here}, runs.absent)
    unchanged = [config for words in sweeps for config in compose(words, own_config_dir())]
    groups = ([resolve(config).spec.group() for config in each] for each in (unchanged, runs.configs))
    return papers.variant(*groups)


def _show(report: PaperReport) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from normbench.report.terminal import renderable

    console = Console(highlight=False)
    for line in report.heading():
        console.print(Text(line))
    console.print()
    console.print(renderable(report.table, console))
    if report.claims:
        console.print("\nclaims")
    for claim in report.claims:
        style = "red" if claim.broken else "yellow" if claim.open else ""
        console.print(Padding(Text(claim.line(), style=style), (0, 0, 0, 2)))
